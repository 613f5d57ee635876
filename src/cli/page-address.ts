// `logpipe page`: the address at which a browser opens the page. In: the `http` section. Out: the address on standard output, alone, with a
// token that opens one session; what there is to know about it on standard error. Guarantee: nothing is asked and nothing is changed; the
// token stands in the fragment, which browsers send to no server.
import type { Config } from '../config.ts';
import type { Clock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import { SCOPES, signPass } from '../ops/access.ts';
import type { Io } from './io.ts';
import { addressesOf } from './top.ts';

/** @throws LogpipeError LOGPIPE_USAGE where no page is served, or its port is not known */
export function page(
  config: Config,
  { readOnly, local, json }: { readonly readOnly: boolean; readonly local: boolean; readonly json: boolean },
  io: Io,
  clock: Pick<Clock, 'now'>,
): number {
  const { enabled, page: isServed, port, publicUrl, linkSecrets: [secret] = [] } = config.http;
  if (!enabled || !isServed) {
    throw new LogpipeError('LOGPIPE_USAGE', `http.${enabled ? 'page' : 'enabled'}: false, so that there is no page`);
  }
  const isPublic = publicUrl !== undefined && !local;
  if (!isPublic && port === 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'http.port: 0 is another one at each start, which logpipe run logs; set one',
    );
  }
  const plain = `${isPublic ? publicUrl.replace(/\/+$/, '') : addressesOf([], () => config)[0]}/`;
  const pass =
    secret === undefined
      ? undefined
      : signPass('once', secret, { scopes: readOnly ? ['read'] : SCOPES, nowMs: clock.now() });
  const url = pass === undefined ? plain : `${plain}#once=${pass.token}`;
  if (json) {
    io.out(JSON.stringify({ url, expires: pass === undefined ? null : new Date(pass.expiresMs).toISOString() }));
    return 0;
  }
  io.out(url);
  if (pass === undefined) {
    io.err(
      'It can be read on this machine, and nothing changed: for more, set http.linkSecrets (openssl rand -hex 32), or give the page a token of http.tokens.',
    );
    return 0;
  }
  io.err(
    `It works once, within 15 minutes; the session may ${readOnly ? 'only read' : 'read and act'}, for twelve hours.`,
  );
  if (!isPublic) io.err(`To read, on this machine: ${plain}`);
  return 0;
}
