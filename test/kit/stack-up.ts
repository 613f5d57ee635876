// `stack up` on the folder given as argument, for tests that interrupt it.
import { runStack } from '../../src/cli/stack.ts';

const io = { out: (line: string) => console.log(line), err: (line: string) => console.error(line) };
process.exitCode = await runStack('up', { folder: process.argv[2]! }, io);
