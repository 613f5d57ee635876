// Who gets the one partition that is held. In: the members of the group, each with the time since when it has held it. Out: an
// assignment kafkajs distributes. Guarantee: a member that joins does not take the hold from the one that has it; of two that believe they
// have it, the one that took it later is right, for it took it from the other.
import kafkajs, { type Assigner, type GroupMember, type PartitionAssigner } from 'kafkajs';

const NAME = 'LogpipeHolderAssigner';
const VERSION = 1;
const PARTITION = 0;

/** @param heldSinceMs when this member became the holder; undefined while it is not */
export function createHolderAssigner(heldSinceMs: () => number | undefined): PartitionAssigner {
  const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;

  return (): Assigner => ({
    name: NAME,
    version: VERSION,
    async assign({ members, topics }) {
      const chosen = chooseHolder(members);
      return members.map(({ memberId }) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({
          version: VERSION,
          assignment: memberId === chosen ? Object.fromEntries(topics.map((topic) => [topic, [PARTITION]])) : {},
          userData: Buffer.alloc(0),
        }),
      }));
    },
    protocol({ topics }) {
      const userData = Buffer.from(String(heldSinceMs() ?? ''));
      return { name: NAME, metadata: MemberMetadata.encode({ version: VERSION, topics, userData }) };
    },
  });
}

/** The member that took the hold last; without one, the first by name. */
export function chooseHolder(members: readonly GroupMember[]): string | undefined {
  const sorted = members
    .map(({ memberId, memberMetadata }) => ({ memberId, sinceMs: heldSince(memberMetadata) }))
    .sort((one, other) => other.sinceMs - one.sinceMs || (one.memberId < other.memberId ? -1 : 1));
  return sorted[0]?.memberId;
}

function heldSince(metadata: Buffer): number {
  const text = kafkajs.AssignerProtocol.MemberMetadata.decode(metadata)?.userData?.toString() ?? '';
  return text === '' ? 0 : Number(text) || 0;
}
