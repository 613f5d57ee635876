// Stands in until the view is there.
import { Empty } from '../parts.tsx';

export function Replay() {
  return (
    <>
      <h1>Replay</h1>
      <Empty title="Not there yet" />
    </>
  );
}
