// Stands in until the view is there.
import { Empty } from '../parts.tsx';

export function OnCall() {
  return (
    <>
      <h1>On call</h1>
      <Empty title="Not there yet" />
    </>
  );
}
