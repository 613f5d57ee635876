// The counts topic while it is read from hours ago. In: its records in order. Out: those that still say something, in order.
// Guarantee: what is handed over adds up to the same as all records would; versions of an interval that is over, or that a later
// version has replaced, are not even parsed. There are some twenty of each until the broker compacts them, after up to an hour.
import type { KafkaMessage } from 'kafkajs';
import { isProgress, openVersion } from '../measure/counts-topic.ts';

type CountsRecord = Pick<KafkaMessage, 'key' | 'value' | 'timestamp'>;

export interface CatchUp {
  take(record: CountsRecord): void;
  /** Everything that was there has been taken: hands over what was held back. */
  end(): void;
}

export function createCatchUp(hand: (record: CountsRecord) => void): CatchUp {
  /** By the key of the final totals, or of the progress; undefined where one has been handed over and none came since. */
  const held = new Map<string, { readonly record: CountsRecord; readonly upToOffset: number } | undefined>();

  /** To the end of the order, so that a lane's progress stays behind its totals. */
  function hold(key: string, record: CountsRecord, upToOffset: number): void {
    held.delete(key);
    held.set(key, { record, upToOffset });
  }

  return {
    take(record) {
      const key = record.key?.toString() ?? '';
      if (isProgress(key)) {
        if (held.has(key)) return hold(key, record, 0);
        // The first one tells since when something is known of the lane.
        held.set(key, undefined);
        return hand(record);
      }
      const version = openVersion(record);
      if (version === undefined) {
        // Final totals hold all that their open versions hold.
        held.delete(key);
        return hand(record);
      }
      const { finalKey, upToOffset } = version;
      // A former owner that was paused may write an older version behind a newer one.
      if (upToOffset >= (held.get(finalKey)?.upToOffset ?? Number.NEGATIVE_INFINITY))
        hold(finalKey, record, upToOffset);
    },
    end() {
      for (const one of held.values()) if (one !== undefined) hand(one.record);
      held.clear();
    },
  };
}
