// kafkajs's request queue without its needless timer: nothing is armed while nothing waits, what waits is sent in time.
import { createRequire } from 'node:module';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { calmRequestQueues } from '../../../src/core/kafkajs-timer.ts';

interface Queue {
  push(request: object): void;
  fulfillRequest(response: object): void;
  maybeThrottle(ms: number): void;
}

const require = createRequire(import.meta.url);
const RequestQueue = require('kafkajs/src/network/requestQueue') as new (options: object) => Queue;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function queue() {
  const logger = { debug: () => {}, warn: () => {} };
  const made = new RequestQueue({ maxInFlightRequests: 1, requestTimeout: 30_000, clientId: 'c', broker: 'b', logger });
  const sent: number[] = [];
  const push = (correlationId: number) =>
    made.push({
      entry: { correlationId, apiKey: 0, apiName: 'Produce', apiVersion: 7, resolve: () => {}, reject: () => {} },
      expectResponse: true,
      sendRequest: () => sent.push(correlationId),
    });
  const answer = (correlationId: number) => made.fulfillRequest({ correlationId, size: 0, payload: Buffer.alloc(0) });
  return { made, sent, push, answer };
}

test('idle: no timer; without us there is one', () => {
  const before = queue();
  before.push(1);
  before.answer(1);
  expect(vi.getTimerCount()).toBe(1);
  vi.clearAllTimers();

  calmRequestQueues();
  calmRequestQueues();
  const { push, answer, sent } = queue();
  push(1);
  answer(1);
  expect(sent).toEqual([1]);
  expect(vi.getTimerCount()).toBe(0);
});

test('what waits is sent with the answer before it, or when the broker’s throttling is over', () => {
  calmRequestQueues();
  const { made, push, answer, sent } = queue();
  push(1);
  push(2);
  expect(sent).toEqual([1]);
  answer(1);
  expect(sent).toEqual([1, 2]);
  answer(2);
  made.maybeThrottle(500);
  push(3);
  vi.advanceTimersByTime(490);
  expect(sent).toEqual([1, 2]);
  vi.advanceTimersByTime(20);
  expect(sent).toEqual([1, 2, 3]);
});
