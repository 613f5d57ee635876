// SCRAM users of a Kafka, which kafkajs cannot create: AlterUserScramCredentials, version 0, over a plaintext listener.
// https://kafka.apache.org/protocol#The_Messages_AlterUserScramCredentials
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { connect } from 'node:net';

const ALTER_USER_SCRAM_CREDENTIALS = 51;
const ITERATIONS = 4_096;
const MECHANISMS = [
  { number: 1, digest: 'sha256', bytes: 32 },
  { number: 2, digest: 'sha512', bytes: 64 },
];
const NO_TAGS = Buffer.of(0);

/** Creates the user or replaces its password, for SCRAM-SHA-256 and SCRAM-SHA-512. `port`: plaintext, on 127.0.0.1. */
export async function setScramPassword(port: number, user: string, password: string): Promise<void> {
  // Kafka takes a user once per request, so each mechanism has its own.
  for (const { number, digest, bytes } of MECHANISMS) {
    const salt = randomBytes(16);
    const salted = pbkdf2Sync(password, salt, ITERATIONS, bytes, digest);
    // No client id, no deletions, one upsert.
    const head = [
      int16(ALTER_USER_SCRAM_CREDENTIALS),
      int16(0),
      int32(1),
      int16(-1),
      NO_TAGS,
      Buffer.of(1),
      Buffer.of(2),
    ];
    const upsert = [compact(user), Buffer.of(number), int32(ITERATIONS), compact(salt), compact(salted), NO_TAGS];
    const answer = await exchange(port, Buffer.concat([...head, ...upsert, NO_TAGS]));
    // Correlation id, tags, throttle time, one more than the number of results; then length and text of the user's name.
    const errorCode = answer.readInt16BE(11 + answer.readUInt8(10) - 1);
    if (errorCode !== 0) throw new Error(`Kafka refused the SCRAM user ${user} with error ${errorCode}`);
  }
}

function exchange(port: number, request: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.concat([int32(request.length), request])));
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      if (received.length < 4 || received.length < 4 + received.readInt32BE(0)) return;
      socket.destroy();
      resolve(received.subarray(4));
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('Kafka closed the connection without an answer')));
  });
}

/** Length + 1 in one byte (below 127 here), then the bytes. */
function compact(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  if (bytes.length > 126) throw new Error('too long for a one-byte length');
  return Buffer.concat([Buffer.of(bytes.length + 1), bytes]);
}

function int16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeInt16BE(value);
  return out;
}

function int32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeInt32BE(value);
  return out;
}
