// Stands in until the view is there.
import { Empty } from '../parts.tsx';

export function Now() {
  return (
    <>
      <h1>Now</h1>
      <Empty title="Not there yet" />
    </>
  );
}
