// Stands in until the view is there.
import { Empty } from '../parts.tsx';

export function Logs() {
  return (
    <>
      <h1>Logs</h1>
      <Empty title="Not there yet" />
    </>
  );
}
