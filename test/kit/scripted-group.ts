// A group coordinator with one member for the scripted cluster: it takes whoever joins, numbers generations, and takes commits of the
// present generation only. The test may decide what it answers to a heartbeat.

/** kafkajs's decoder, as far as it is used here. */
interface Decoder {
  readInt32(): number;
  readInt64(): { toString(): string };
  readString(): string;
  readBytes(): Buffer;
}
interface Encoder {
  writeInt16(value: number): Encoder;
  writeInt32(value: number): Encoder;
  writeInt64(value: number): Encoder;
  writeString(value: string | null): Encoder;
  writeBytes(value: Buffer): Encoder;
}

const OFFSET_COMMIT = 8;
const OFFSET_FETCH = 9;
const FIND_COORDINATOR = 10;
const JOIN_GROUP = 11;
const HEARTBEAT = 12;
const LEAVE_GROUP = 13;
const SYNC_GROUP = 14;
/** Highest version of each request that is answered. */
export const GROUP_VERSIONS = {
  ...{
    [OFFSET_COMMIT]: 2,
    [OFFSET_FETCH]: 1,
    [FIND_COORDINATOR]: 0,
    [JOIN_GROUP]: 0,
    [HEARTBEAT]: 0,
    [LEAVE_GROUP]: 0,
  },
  [SYNC_GROUP]: 0,
};

const ILLEGAL_GENERATION = 22;
const UNKNOWN_MEMBER = 25;
const REBALANCE_IN_PROGRESS = 27;

export interface ScriptedGroup {
  /** What members asked, in order: `join`, `sync`, `leave`; and `commit 0:110` for a commit that was taken. */
  readonly asked: readonly string[];
  /** The answer to the next heartbeat says that the group has to join again. */
  rebalance(): void;
}

export function createScriptedGroup(coordinator: () => { id: number; port: number }) {
  const asked: string[] = [];
  const committed = new Map<string, number>();
  let generation = 0;
  let member: string | undefined;
  let isRebalancing = false;

  const stale = (generationId: number, memberId: string) => {
    if (memberId !== member) return UNKNOWN_MEMBER;
    return generationId === generation ? 0 : ILLEGAL_GENERATION;
  };

  function join(request: Decoder, reply: Encoder): void {
    asked.push('join');
    request.readString();
    request.readInt32();
    member = request.readString() || `member-${generation}`;
    request.readString();
    const protocols = Array.from(
      { length: request.readInt32() },
      () => [request.readString(), request.readBytes()] as const,
    );
    const [name, metadata] = protocols[0]!;
    generation += 1;
    isRebalancing = false;
    reply.writeInt16(0).writeInt32(generation).writeString(name).writeString(member).writeString(member);
    reply.writeInt32(1).writeString(member).writeBytes(metadata);
  }

  function sync(request: Decoder, reply: Encoder): void {
    asked.push('sync');
    request.readString();
    const code = stale(request.readInt32(), request.readString());
    const assignments = Array.from(
      { length: request.readInt32() },
      () => [request.readString(), request.readBytes()] as const,
    );
    reply.writeInt16(code).writeBytes(assignments.find(([name]) => name === member)?.[1] ?? Buffer.alloc(0));
  }

  function commit(request: Decoder, reply: Encoder): void {
    request.readString();
    const code = stale(request.readInt32(), request.readString());
    request.readInt64();
    reply.writeInt32(request.readInt32());
    const topic = request.readString();
    const count = request.readInt32();
    reply.writeString(topic).writeInt32(count);
    for (let n = 0; n < count; n++) {
      const partition = request.readInt32();
      const offset = Number(request.readInt64().toString());
      request.readString();
      if (code === 0) {
        asked.push(`commit ${partition}:${offset}`);
        committed.set(`${topic}/${partition}`, offset);
      }
      reply.writeInt32(partition).writeInt16(code);
    }
  }

  function fetchOffsets(request: Decoder, reply: Encoder): void {
    request.readString();
    const topics = request.readInt32();
    reply.writeInt32(topics);
    for (let t = 0; t < topics; t++) {
      const topic = request.readString();
      const count = request.readInt32();
      reply.writeString(topic).writeInt32(count);
      for (let n = 0; n < count; n++) {
        const partition = request.readInt32();
        const offset = committed.get(`${topic}/${partition}`) ?? -1;
        reply.writeInt32(partition).writeInt64(offset).writeString('').writeInt16(0);
      }
    }
  }

  const group: ScriptedGroup = {
    asked,
    rebalance() {
      isRebalancing = true;
    },
  };
  return {
    group,
    /** False for a request that is not about groups. */
    answer(api: number, request: Decoder, reply: Encoder): boolean {
      if (api === FIND_COORDINATOR) {
        const { id, port } = coordinator();
        reply.writeInt16(0).writeInt32(id).writeString('127.0.0.1').writeInt32(port);
      } else if (api === JOIN_GROUP) join(request, reply);
      else if (api === SYNC_GROUP) sync(request, reply);
      else if (api === OFFSET_COMMIT) commit(request, reply);
      else if (api === OFFSET_FETCH) fetchOffsets(request, reply);
      else if (api === HEARTBEAT) {
        request.readString();
        const code = stale(request.readInt32(), request.readString());
        reply.writeInt16(code === 0 && isRebalancing ? REBALANCE_IN_PROGRESS : code);
      } else if (api === LEAVE_GROUP) {
        asked.push('leave');
        member = undefined;
        reply.writeInt16(0);
      } else return false;
      return true;
    },
  };
}
