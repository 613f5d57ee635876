// A promise settled from outside, for sources whose end is decided in several places.

export interface Settleable {
  readonly promise: Promise<void>;
  resolve(): void;
  reject(error: Error): void;
}

/** The first call counts. Nobody has to listen to the rejection. */
export function settleable(): Settleable {
  let resolve: () => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
