// What this process lost for good since the last look, by reason.
import type { Metrics } from '../core/metrics.ts';
import type { Probe } from './reading.ts';

export function createDropsProbe(metrics: Pick<Metrics, 'dropped'>): Probe {
  const before = new Map<string, number>();
  return {
    name: 'drops',
    async run() {
      const { values } = await metrics.dropped.get();
      return values.map(({ labels, value }) => {
        const reason = `${String(labels.reason)} (this process)`;
        const lost = value - (before.get(reason) ?? 0);
        before.set(reason, value);
        return { measure: 'logpipe.dropped', labels: { reason }, value: lost };
      });
    },
    async close() {},
  };
}
