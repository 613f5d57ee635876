// config/systemd by systemd's own checks, and against the code. Nothing is started: that takes a machine whose first process is systemd.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { estateProgram } from '../kit/programs.ts';

const folder = join(packageRoot(), 'config/systemd');
const units = readdirSync(folder).filter((name) => name.endsWith('.service'));
const PROGRAM = '/usr/bin/logpipe';
/** Of 100 in systemd's own figure, which says what a service could do if somebody took it over; most services have more than 90. */
const MAX_EXPOSURE = 15;

const textOf = (unit: string) => readFileSync(join(folder, unit), 'utf8');
const valuesOf = (unit: string, key: string) =>
  [...textOf(unit).matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value]) => value!);

/** The unit with a program that is there, for whoever checks that it is. @param change what is broken */
function installed(unit: string, change: (text: string) => string = (text) => text): string {
  const copy = mkdtempSync(join(tmpdir(), 'logpipe-systemd-'));
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }));
  const file = join(copy, unit);
  writeFileSync(file, change(textOf(unit).replaceAll(`=${PROGRAM} `, '=/bin/true ')));
  return file;
}

function analyze(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(estateProgram('systemd-analyze'), args, { encoding: 'utf8' });
  return { status, said: `${stdout}${stderr}` };
}

test('there are two', () => expect(units.sort()).toEqual(['logpipe-ship.service', 'logpipe.service']));

describe.each(units)('%s', (unit) => {
  test('systemd reads every line of it', () => {
    const verify = (file: string) => analyze('verify', '--man=no', file);
    expect(verify(installed(unit))).toEqual({ status: 0, said: '' });
    expect(verify(installed(unit, (text) => text.replace('RestartSec=2', 'RestartSec=two'))).said).toContain(
      'Failed to parse sec value',
    );
    expect(verify(installed(unit, (text) => text.replace('ProtectHome=yes', 'ProtectHomes=yes'))).said).toContain(
      'ProtectHomes',
    );
  });

  test(`it is exposed at most ${MAX_EXPOSURE / 10} of 10`, () => {
    const exposed = (file: string) =>
      analyze('security', '--offline=yes', `--threshold=${MAX_EXPOSURE}`, '--no-pager', file);
    const { status, said } = exposed(installed(unit));
    expect(status, said).toBe(0);
    const loose = exposed(installed(unit, (text) => text.replace(/^SystemCallFilter=.*$/gm, '')));
    expect(loose.status).not.toBe(0);
  });

  test('it calls what there is, ends in time and writes only to its own folder', () => {
    for (const key of ['ExecStartPre', 'ExecStart']) {
      for (const command of valuesOf(unit, key)) {
        const [program, name, ...options] = command.split(' ');
        expect(program).toBe(PROGRAM);
        const help = execFileSync(process.execPath, [join(packageRoot(), 'dist/src/main.js'), name!, '--help'], {
          encoding: 'utf8',
        });
        for (const option of options.filter((each) => each.startsWith('--'))) expect(help, command).toContain(option);
      }
    }
    const { shutdownTimeoutMs } = parseConfig('', {}, 'defaults');
    expect(Number(valuesOf(unit, 'TimeoutStopSec')[0]) * 1_000).toBeGreaterThanOrEqual(shutdownTimeoutMs + 10_000);
    expect(valuesOf(unit, 'WorkingDirectory')).toEqual([`/var/lib/${valuesOf(unit, 'StateDirectory')[0]}`]);
    // Node makes code while it runs.
    expect(valuesOf(unit, 'MemoryDenyWriteExecute')).toEqual([]);
  });
});
