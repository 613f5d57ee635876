// Ends what a test has started.
import { afterAll, onTestFinished } from 'vitest';

/** Within a test: when it ends. While a file is collected: after its tests. Within a hook: the hook has to do it itself. */
export function atEnd(clean: () => Promise<void>): void {
  try {
    onTestFinished(clean);
  } catch {
    try {
      afterAll(clean);
    } catch {
      // In beforeAll neither can be registered; child processes and servers still end with this worker.
    }
  }
}
