// Stands in until the view is there.
import { Empty } from '../parts.tsx';

export function Alerts() {
  return (
    <>
      <h1>Alerts</h1>
      <Empty title="Not there yet" />
    </>
  );
}
