// Stands in until the view is there.
import { Empty } from '../parts.tsx';

export function Pipeline() {
  return (
    <>
      <h1>Pipeline</h1>
      <Empty title="Not there yet" />
    </>
  );
}
