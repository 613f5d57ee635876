// Who leads: whoever led last goes on, whatever the names are.
import fc from 'fast-check';
import type { GroupMember } from 'kafkajs';
import kafkajs from 'kafkajs';
import { expect, test } from 'vitest';
import { chooseLeader, createLeaderAssigner } from '../../../src/alerter/leadership.ts';

const { MemberAssignment } = kafkajs.AssignerProtocol;
const unused = {} as Parameters<ReturnType<typeof createLeaderAssigner>>[0];

function member(memberId: string, ledSinceMs: number | undefined): GroupMember {
  const assigner = createLeaderAssigner(() => ledSinceMs)(unused);
  return { memberId, memberMetadata: assigner.protocol({ topics: ['counts'] }).metadata };
}

test('of any members the one that took the lead last keeps it, and nobody else gets anything', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.tuple(fc.uuid(), fc.option(fc.integer({ min: 1, max: 2e12 }), { nil: undefined })), {
        minLength: 1,
        maxLength: 6,
        selector: ([id]) => id,
      }),
      async (list) => {
        const members = list.map(([id, since]) => member(id, since));
        const holders = list.filter(([, since]) => since !== undefined);
        const latest = Math.max(...holders.map(([, since]) => since ?? 0));
        const chosen = chooseLeader(members)!;
        if (holders.length > 0) expect(list.find(([id]) => id === chosen)?.[1]).toBe(latest);
        else expect(chosen).toBe(list.map(([id]) => id).sort()[0]);
        const assigned = await createLeaderAssigner(() => undefined)(unused).assign({ members, topics: ['counts'] });
        for (const { memberId, memberAssignment } of assigned) {
          const { assignment } = MemberAssignment.decode(memberAssignment)!;
          expect(assignment).toEqual(memberId === chosen ? { counts: [0] } : {});
        }
      },
    ),
  );
});
