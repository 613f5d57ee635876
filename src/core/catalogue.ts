// The one vocabulary of logpipe: every field with its type, every event with what it must carry, every tag.
// The index template, the parser's type checks, the transport's documentation and the tests are derived from it.

export type FieldType = 'date' | 'keyword' | 'text' | 'long' | 'short' | 'float' | 'boolean' | 'flattened' | 'raw';

export interface FieldGroup {
  readonly [name: string]: FieldType | FieldGroup;
}

/** Field catalogue; nested objects are groups. `raw` = kept in the document, neither indexed nor aggregatable. */
export const FIELDS = {
  '@timestamp': 'date',
  timestamp: 'date',
  level: 'keyword',
  service: 'keyword',
  environment: 'keyword',
  version: 'keyword',
  host: 'keyword',
  tenantId: 'keyword',
  campaignId: 'keyword',
  userId: 'keyword',
  callId: 'keyword',
  requestId: 'keyword',
  traceId: 'keyword',
  eventId: 'keyword',
  event: 'keyword',
  tags: 'keyword',
  pid: 'long',
  message: 'text',
  activeCalls: 'long',
  originalBytes: 'long',
  error: {
    name: 'keyword',
    code: 'keyword',
    template: 'keyword',
    fingerprint: 'keyword',
    message: 'text',
    stack: 'text',
  },
  call: {
    direction: 'keyword',
    status: 'keyword',
    provider: 'keyword',
    durationMs: 'long',
    attempt: 'long',
    voicemail: 'boolean',
  },
  http: { method: 'keyword', route: 'keyword', status: 'short', durationMs: 'float' },
  queue: {
    name: 'keyword',
    waiting: 'long',
    active: 'long',
    delayed: 'long',
    completed: 'long',
    failed: 'long',
    waitMs: 'long',
  },
  db: { system: 'keyword', poolSize: 'long', poolInUse: 'long' },
  process: {
    heapUsedBytes: 'long',
    heapTotalBytes: 'long',
    heapLimitBytes: 'long',
    rssBytes: 'long',
    cpuPercent: 'float',
    cpuSecondsTotal: 'float',
    eventLoopLagMs: 'float',
  },
  system: {
    cpuPercent: 'float',
    memoryPercent: 'float',
    diskPercent: 'float',
    networkRxBytesPerSec: 'float',
    networkTxBytesPerSec: 'float',
    activeConnections: 'long',
  },
  kafka: { topic: 'keyword', partition: 'long', offset: 'long' },
  extra: 'flattened',
  extraRaw: 'raw',
} as const satisfies FieldGroup;

/** Tags that logpipe gives. A closed list, because each becomes a metric label. */
export const TAGS = [
  'error',
  '_parse_failed',
  '_time_missing',
  '_time_out_of_range',
  '_clock_corrected',
  '_mapping_degraded',
  '_truncated',
  '_masked',
  '_event_invalid',
  '_format_failed',
] as const;
export type Tag = (typeof TAGS)[number];

export const CALL_STATUSES = ['completed', 'voicemail', 'busy', 'no-answer', 'canceled', 'failed'] as const;

/** What each event of the application must carry, as paths of FIELDS. A violation is a tag, never a loss. */
export const EVENTS = {
  'call.started': { when: 'a call begins', required: ['callId', 'call.direction'] },
  'call.ended': {
    when: 'once per call, at its final state',
    required: ['callId', 'call.direction', 'call.status', 'call.durationMs', 'call.attempt'],
  },
  'http.request': {
    when: 'each request served',
    required: ['http.method', 'http.route', 'http.status', 'http.durationMs'],
  },
  'queue.job': { when: 'a job is taken from a queue', required: ['queue.name', 'queue.waitMs'] },
  'queue.stats': {
    when: 'every 15 s per queue',
    required: ['queue.name', 'queue.waiting', 'queue.active', 'queue.completed', 'queue.failed'],
  },
  'db.pool': { when: 'every 15 s per pool', required: ['db.system', 'db.poolSize', 'db.poolInUse'] },
  'platform.stats': { when: 'every 15 s', required: ['activeCalls'] },
  'process.stats': {
    when: 'every 15 s, by startProcessStats()',
    required: [
      'process.heapUsedBytes',
      'process.heapTotalBytes',
      'process.heapLimitBytes',
      'process.rssBytes',
      'process.cpuPercent',
      'process.cpuSecondsTotal',
      'process.eventLoopLagMs',
    ],
  },
  'system.stats': {
    when: 'every 15 s, by startProcessStats()',
    required: ['system.cpuPercent', 'system.memoryPercent'],
  },
} as const;
export type EventName = keyof typeof EVENTS;
