// Where an import goes. In: the address as people have it, perhaps copied from a browser, and a space. Out: the base of all
// requests. Guarantee: no error repeats a user or password that stood in the address.
import { LogpipeError } from '../core/errors.ts';

export interface KibanaTarget {
  /** Address with base path and space, without a slash at its end: `http://kibana:5601/s/ops`. */
  readonly base: string;
  /** `default` for the default space. */
  readonly space: string;
}

/** @throws LogpipeError LOGPIPE_USAGE */
export function kibanaTarget(address: string, space: string | undefined): KibanaTarget {
  if (!/^https?:\/\//.test(address) || !URL.canParse(address)) {
    throw new LogpipeError('LOGPIPE_USAGE', 'kibana.url or --url: is no http:// or https:// address');
  }
  const url = new URL(address);
  if (url.username !== '' || url.password !== '') {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `kibana.url or --url: ${url.host} comes with a user or password in the address; set KIBANA_USERNAME and KIBANA_PASSWORD instead`,
    );
  }
  if (space !== undefined && !/^[a-z0-9_-]+$/.test(space)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--space: found ${JSON.stringify(space)}; the id of a space has lower-case letters, digits, - and _ (it stands in its address)`,
    );
  }
  // What a browser shows ends in the page: …/s/ops/app/discover#/…
  const path = url.pathname.replace(/\/app(?:\/.*)?$/, '').replace(/\/+$/, '');
  const named = /\/s\/([a-z0-9_-]+)$/.exec(path);
  const inAddress = named?.[1];
  if (space !== undefined && inAddress !== undefined && space !== inAddress) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--space: found ${space}, but the address is that of the space ${inAddress}`,
    );
  }
  const into = space ?? inAddress ?? 'default';
  const root = `${url.origin}${named === null ? path : path.slice(0, named.index)}`;
  return { base: into === 'default' ? root : `${root}/s/${into}`, space: into };
}
