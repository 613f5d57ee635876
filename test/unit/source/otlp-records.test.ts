// OpenTelemetry's records as lines: what becomes of what, that both encodings mean the same, and that the parser makes documents of ours.
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { OtlpError, type OtlpLimits, otlpResponse, readOtlp } from '../../../src/source/otlp-records.ts';

const LIMITS: OtlpLimits = { maxLineBytes: 900_000, maxBytes: 8_000_000, maxRecords: 1_000 };

/** From the published logs.proto, common.proto, resource.proto and logs_service.proto; read by the library, not by us. */
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated ResourceLogs resource_logs = 1; }
  message ResourceLogs { Resource resource = 1; repeated ScopeLogs scope_logs = 2; string schema_url = 3; }
  message Resource { repeated KeyValue attributes = 1; uint32 dropped_attributes_count = 2; }
  message ScopeLogs { Scope scope = 1; repeated LogRecord log_records = 2; string schema_url = 3; }
  message Scope { string name = 1; string version = 2; repeated KeyValue attributes = 3; }
  message LogRecord {
    fixed64 time_unix_nano = 1; fixed64 observed_time_unix_nano = 11; int32 severity_number = 2; string severity_text = 3;
    AnyValue body = 5; repeated KeyValue attributes = 6; uint32 dropped_attributes_count = 7; fixed32 flags = 8;
    bytes trace_id = 9; bytes span_id = 10; string event_name = 12;
  }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue { oneof value {
    string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; ArrayValue array_value = 5;
    KeyValueList kvlist_value = 6; bytes bytes_value = 7;
  } }
  message ArrayValue { repeated AnyValue values = 1; }
  message KeyValueList { repeated KeyValue values = 1; }
  message Response { Partial partial_success = 1; }
  message Partial { int64 rejected_log_records = 1; string error_message = 2; }
`);
const Request = root.lookupType('Request');

type Json = Record<string, unknown>;
const lineOf = (record: Json, resource: unknown[] = [], scope?: Json): Json => {
  const request = {
    resourceLogs: [{ resource: { attributes: resource }, scopeLogs: [{ scope, logRecords: [record] }] }],
  };
  return JSON.parse(readOtlp(Buffer.from(JSON.stringify(request)), 'json', LIMITS).lines[0]!.toString());
};
const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
const int = (key: string, intValue: string) => ({ key, value: { intValue } });

describe('a record as a line', () => {
  test('what the catalogue has gets its place, by our names and by the conventions’; everything else goes to extra', () => {
    const line = lineOf(
      {
        ...{
          timeUnixNano: '1795875761607999999',
          observedTimeUnixNano: '1',
          severityNumber: 17,
          severityText: 'ERROR',
        },
        ...{
          traceId: '5B8EFFF798038103D269B633813FC60C',
          spanId: 'eee19b7ec3c1b174',
          body: { stringValue: 'call failed' },
        },
        attributes: [
          ...[
            text('callId', 'CA1'),
            text('exception.type', 'TypeError'),
            text('exception.message', 'x is no function'),
          ],
          ...[text('exception.stacktrace', 'TypeError: x\n at y'), text('http.request.method', 'POST')],
          ...[
            int('http.response.status_code', '502'),
            text('http.route', '/calls/:id'),
            text('code.function.name', 'dial'),
          ],
          ...[
            int('big', '9007199254740993'),
            { key: 'list', value: { arrayValue: { values: [{ boolValue: true }] } } },
          ],
          ...[{ key: 'http.method', value: { stringValue: 'PUT' } }, text('level', 'forged'), text('__proto__', 'p')],
        ],
      },
      [
        ...[
          text('service.name', 'calls'),
          text('service.version', '1.4.2'),
          text('deployment.environment.name', 'prod'),
        ],
        ...[text('host.name', 'web1'), int('process.pid', '411'), text('telemetry.sdk.language', 'nodejs')],
      ],
      { name: 'dialer', version: '2' },
    );
    expect(line).toEqual({
      ...{ timestamp: '2026-11-28T14:22:41.607Z', level: 'error', message: 'call failed', callId: 'CA1' },
      ...{ traceId: '5b8efff798038103d269b633813fc60c', service: 'calls', version: '1.4.2', environment: 'prod' },
      ...{ host: 'web1', pid: 411, http: { method: 'POST', status: 502, route: '/calls/:id' } },
      error: { name: 'TypeError', message: 'x is no function', stack: 'TypeError: x\n at y' },
      extra: {
        ...{ spanId: 'eee19b7ec3c1b174', 'code.function.name': 'dial', big: '9007199254740993', list: [true] },
        ...{ 'http.method': 'PUT', level: 'forged', ['__proto__']: 'p' },
        ...{ resource: { 'telemetry.sdk.language': 'nodejs' }, scope: { name: 'dialer', version: '2' } },
      },
    });
  });

  test.each([
    [0, '', undefined],
    [1, '', 'trace'],
    [4, '', 'trace'],
    [5, '', 'debug'],
    [9, 'INFO', 'info'],
    [16, '', 'warn'],
    [20, '', 'error'],
    [24, 'FATAL4', 'fatal'],
    [25, '', undefined],
    [-3, 'notice', 'notice'],
  ])('severity %d %s is level %s', (severityNumber, severityText, level) => {
    const line = lineOf({ severityNumber, severityText, timeUnixNano: '1' });
    expect(line.level).toBe(level);
    const isSaid = severityText === '' || severityText.toLowerCase() === level;
    expect((line.extra as Json | undefined)?.severityText).toBe(isSaid ? undefined : severityText);
  });

  test('a body without severity is a line, of whatever logger; with one, its fields are those of the record', () => {
    const body = { stringValue: 'time=2026-11-28T14:22:41.607Z level=error msg="call failed" callId=CA1' };
    expect(lineOf({ body }, [text('service.name', 'calls')])).toEqual({
      service: 'calls',
      shippedLine: body.stringValue,
    });
    const map = (severityNumber: number) => ({
      severityNumber,
      body: { kvlistValue: { values: [text('message', 'm'), text('callId', 'CA1'), text('mine', 'x')] } },
    });
    expect(lineOf(map(0))).toEqual({ shippedLine: '{"message":"m","callId":"CA1","mine":"x"}' });
    expect(lineOf(map(9))).toEqual({ level: 'info', message: 'm', callId: 'CA1', extra: { mine: 'x' } });
    expect(lineOf({ severityNumber: 9, eventName: 'call.started' })).toEqual({
      ...{ level: 'info', event: 'call.started', message: 'call.started' },
    });
  });

  test('the parser makes of them what it makes of a line of logpipe’s own transport', () => {
    const masker = createMasker();
    const parser = createParser(parseConfig('{}', {}, 'test').parse, { masker, duplicatesRefused: false });
    const parsed = (record: Json) => {
      const value = Buffer.from(JSON.stringify(lineOf(record, [text('service.name', 'calls')])));
      const raw = { value, offset: 0, timeMs: Date.parse('2026-11-28T14:22:42Z'), eventId: undefined };
      const result = parser.parse(raw);
      if (!result.ok) throw new Error(result.reason);
      return { ...result.event.doc, tags: result.event.tags };
    };
    const line = { stringValue: 'time=2026-11-28T14:22:41.607Z level=error msg="call failed" callId=CA1' };
    expect(parsed({ body: line, timeUnixNano: '1795875761000000000' })).toMatchObject({
      ...{
        timestamp: '2026-11-28T14:22:41.607Z',
        level: 'error',
        message: 'call failed',
        callId: 'CA1',
        service: 'calls',
      },
      tags: [],
    });
    const status = int('http.response.status_code', '502');
    const own = {
      severityNumber: 17,
      timeUnixNano: '1795875761607000000',
      body: { stringValue: 'failed' },
      attributes: [status],
    };
    expect(parsed(own)).toMatchObject({
      ...{ timestamp: '2026-11-28T14:22:41.607Z', level: 'error', message: 'failed', service: 'calls' },
      ...{ http: { status: 502 }, tags: [] },
    });
  });

  test('depth, values and length are bounded, and what is cut says so', () => {
    const deep = (depth: number): Json =>
      depth === 0 ? { stringValue: 'bottom' } : { arrayValue: { values: [deep(depth - 1)] } };
    const line = lineOf({ severityNumber: 9, attributes: [{ key: 'deep', value: deep(40) }] });
    expect(line.tags).toEqual(['_truncated']);
    expect(JSON.stringify(line)).not.toContain('bottom');
    const many = lineOf({ severityNumber: 9, attributes: Array.from({ length: 3_000 }, (_, n) => int(`k${n}`, '1')) });
    expect(many.tags).toEqual(['_truncated']);
    expect(Object.keys(many.extra as Json)).toHaveLength(2_000);
    const logRecords = ['a', 'x'.repeat(2_000), 'b', 'c'].map((stringValue) => ({
      severityNumber: 9,
      body: { stringValue },
    }));
    const body = Buffer.from(JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] }));
    const { places, rejected } = readOtlp(body, 'json', { maxLineBytes: 1_000, maxBytes: 10_000, maxRecords: 3 });
    expect([places, rejected]).toEqual([[0, 2], { too_large: 1, too_many: 1 }]);
  });
});

describe('both encodings', () => {
  const key = fc.constantFrom('callId', 'a', 'http.route', 'exception.type', 'service.name', 'event', 'x.y', '');
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.record({ stringValue: fc.string({ unit: 'grapheme' }) }),
      fc.record({ boolValue: fc.boolean() }),
      fc.record({ intValue: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String) }),
      fc.record({ doubleValue: fc.double() }),
      fc.record({ bytesValue: fc.uint8Array({ maxLength: 8 }) }),
      fc.constant({}),
      fc.record({ arrayValue: fc.record({ values: fc.array(tie('value'), { maxLength: 3 }) }) }),
      fc.record({
        kvlistValue: fc.record({ values: fc.array(fc.record({ key, value: tie('value') }), { maxLength: 3 }) }),
      }),
    ),
  }));
  const attributes = fc.array(fc.record({ key, value }), { maxLength: 5 });
  const nanos = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String);
  const logRecord = fc.record({
    ...{ timeUnixNano: nanos, observedTimeUnixNano: nanos, severityNumber: fc.nat(30), severityText: fc.string() },
    ...{ body: value, attributes, droppedAttributesCount: fc.nat(), flags: fc.nat() },
    traceId: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    spanId: fc.uint8Array({ minLength: 8, maxLength: 8 }),
    eventName: fc.constantFrom('', 'call.started', 'mine'),
  });
  const scopeLogs = fc.record({
    scope: fc.record({ name: fc.string(), version: fc.string(), attributes }),
    logRecords: fc.array(logRecord, { maxLength: 3 }),
  });
  const request = fc.record({
    resourceLogs: fc.array(
      fc.record({ resource: fc.record({ attributes }), scopeLogs: fc.array(scopeLogs, { maxLength: 2 }) }),
      { maxLength: 2 },
    ),
  });

  /** As the protocol's JSON: ids in hexadecimal, other bytes in base64, numbers that JSON does not have as texts. */
  const asJson = (given: unknown) =>
    JSON.stringify(given, (name, one) => {
      if (one instanceof Uint8Array) return Buffer.from(one).toString(name.endsWith('Id') ? 'hex' : 'base64');
      return typeof one === 'number' && !Number.isFinite(one) ? String(one) : one;
    });

  test('mean the same', () => {
    fc.assert(
      fc.property(request, (given) => {
        const encoded = Buffer.from(Request.encode(Request.fromObject(given)).finish());
        const fromBinary = readOtlp(encoded, 'protobuf', LIMITS);
        const fromJson = readOtlp(Buffer.from(asJson(given)), 'json', LIMITS);
        expect(fromBinary.lines.map(String)).toEqual(fromJson.lines.map(String));
        expect([fromBinary.allTimed, fromBinary.places]).toEqual([fromJson.allTimed, fromJson.places]);
      }),
      { numRuns: 300 },
    );
  });

  test('give lines or say what is wrong, whatever is cut or changed', () => {
    fc.assert(
      fc.property(request, fc.nat(), fc.nat(), fc.nat(255), fc.boolean(), (given, end, at, byte, isJson) => {
        const whole = isJson ? Buffer.from(asJson(given)) : Request.encode(Request.fromObject(given)).finish();
        const body = Buffer.from(whole.subarray(0, end % (whole.length + 1)));
        if (body.length > 0) body[at % body.length] = byte;
        try {
          for (const line of readOtlp(body, isJson ? 'json' : 'protobuf', LIMITS).lines) JSON.parse(line.toString());
        } catch (error) {
          expect(error).toBeInstanceOf(OtlpError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('a resource that comes after its records is theirs all the same', () => {
    const part = (tag: number, inner: Uint8Array) => protobuf.Writer.create().uint32(tag).bytes(inner).finish();
    const resource = root.lookupType('Resource');
    const scope = root.lookupType('ScopeLogs');
    const logs = scope
      .encode(scope.fromObject({ logRecords: [{ severityNumber: 9, body: { stringValue: 'm' } }] }))
      .finish();
    const late = resource.encode(resource.fromObject({ attributes: [text('service.name', 'calls')] })).finish();
    const body = Buffer.from(part(10, Buffer.concat([part(18, logs), part(10, late)])));
    expect(readOtlp(body, 'protobuf', LIMITS).lines.map(String)).toEqual([
      '{"level":"info","service":"calls","message":"m"}',
    ]);
  });

  test('the answer is read by the library as it is meant', () => {
    const Response = root.lookupType('Response');
    const read = Response.toObject(Response.decode(otlpResponse('protobuf', { too_large: 2, refused: 1 })), {
      longs: Number,
    });
    expect(read).toEqual({
      partialSuccess: { rejectedLogRecords: 3, errorMessage: expect.stringMatching(/^2 too_large: .*; 1 refused: /) },
    });
    expect(otlpResponse('protobuf', {})).toHaveLength(0);
  });
});
