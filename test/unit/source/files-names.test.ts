// Which names belong to which live file, and which of two is older.
import { expect, it } from 'vitest';
import { liveNamesOf, olderByName, turnsOf } from '../../../src/source/files/content.ts';

it.each([
  ['app.log.1', 'logrotate'],
  ['app.log.2.gz', 'logrotate, compress'],
  ['app.log-20261128', 'logrotate, dateext'],
  ['app.log-20261128-1764331200.gz', 'logrotate, dateformat with %s'],
  ['app.log.2026-11-28', 'log4js'],
  ['app.log.2026-11-28-03.1', 'log4js, by the hour and size'],
  ['app.log.20261128-101112', 'kubelet'],
  ['app.log.20261128-101112.gz', 'kubelet'],
  ['app.log.old', 'by hand'],
  ['app1.log', 'Winston maxsize'],
  ['app12.log.gz', 'Winston zippedArchive'],
  ['app.log.gz', 'Winston zippedArchive'],
  ['app.3.log', 'pino-roll'],
  ['app-2026-11-28.log', 'winston-daily-rotate-file'],
  ['app-2026-11-28-14.log', 'winston-daily-rotate-file by the hour'],
  ['app-2026-11-28.log.3.gz', 'winston-daily-rotate-file with maxSize'],
  ['app.2026-11.log', 'by the month'],
  ['app__2026-11-28_00-00-00.log', 'pm2-logrotate'],
  ['app__2026-11-28_00-00-00.log.gz', 'pm2-logrotate, compress'],
  ['20261128-0312-01-app.log', 'rotating-file-stream'],
])('%s (%s)', (name) => {
  expect(liveNamesOf(name)).toContain('app.log');
});

it.each([
  'app.log',
  'app-error.log',
  'app-1.log',
  'app2.txt',
  'other.log.1',
  'app.log.json',
  'app.logx.1',
  'apple.log',
  'app.log~',
])('%s is no rotated app.log', (name) => {
  expect(liveNamesOf(name)).not.toContain('app.log');
});

it('worker-10.log is another worker than worker-1.log', () => {
  expect(liveNamesOf('worker-10.log')).not.toContain('worker-1.log');
  expect(liveNamesOf('worker-1.log.1')).toContain('worker-1.log');
});

it('a link’s next targets are found by the name of the present one', () => {
  const next = (from: string, to: string) => turnsOf(from).some((live) => liveNamesOf(to).includes(live));
  expect(next('0.log', '1.log')).toBe(true);
  expect(next('app-2026-11-28.log', 'app-2026-11-30.log')).toBe(true);
  expect(next('app.log', 'other.log')).toBe(false);
});

it('higher counters behind the name are older, within it newer; the live file is the newest', () => {
  const names = ['app.log', 'app.log.10.gz', 'app.log.1', 'app.log.2'];
  expect(names.sort(olderByName)).toEqual(['app.log.10.gz', 'app.log.2', 'app.log.1', 'app.log']);
  expect(['app10.log', 'app2.log'].sort(olderByName)).toEqual(['app2.log', 'app10.log']);
});

it('takes linear time for any name a file system allows', () => {
  const worst = ['1'.repeat(255), '-1'.repeat(127), '.1'.repeat(127), '2026-11-28'.repeat(25), '_'.repeat(255)];
  for (const name of worst) expect(liveNamesOf(name).length).toBeLessThan(600);
  expect(liveNamesOf('1'.repeat(10_000))).toEqual([]);
});
