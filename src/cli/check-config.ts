// `logpipe check-config`, and what is to be said about a configuration that is valid: credentials that would travel in clear text.
import { CONFIG_SCHEMA, type Config } from '../config.ts';
import { withoutSecrets } from '../core/config-loader.ts';
import { visibleJson } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import type { Io } from './io.ts';

/** Prints that it is fine, or the effective configuration without its secrets. Warnings go to standard error. */
export function checkConfig(config: Config, options: { readonly json: boolean }, io: Io): void {
  for (const warning of clearTextWarnings(config)) io.err(`warning: ${warning}`);
  const shown = () => withoutSecrets(config, CONFIG_SCHEMA, createMasker(config.mask));
  io.out(options.json ? visibleJson(JSON.stringify(shown(), null, 2)) : 'the configuration is fine');
}

/** One line for each place where a credential would be sent without TLS to another machine; none of them holds an address. */
export function clearTextWarnings(config: Config): string[] {
  const { elasticsearch, kibana, kafka, notify, alerts, monitor } = config;
  const found: (readonly [place: string, what: string, fix: string] | undefined)[] = [
    elasticsearch.nodes.some((node) => isClear(node) && (hasLogin(elasticsearch) || hasUserInfo(node)))
      ? ['elasticsearch.nodes', 'API key or password', 'write https:// and, if need be, elasticsearch.caFile']
      : undefined,
    isClear(kibana.url) && hasLogin(kibana)
      ? ['kibana.url', 'API key or password', 'write https:// and, if need be, kibana.caFile']
      : undefined,
    kafka.sasl !== undefined && !kafka.ssl && kafka.brokers.some((broker) => !isLoopback(hostOf(`kafka://${broker}`)))
      ? kafka.sasl.mechanism === 'plain'
        ? ['kafka.sasl', 'user name and password', 'set kafka.ssl']
        : ['kafka.sasl', 'the proof of the password, which can be tried offline, and every record', 'set kafka.ssl']
      : undefined,
    // Mail needs no warning: user and password are only sent over TLS, or to this host (notify/email.ts).
    clearUrl('notify.slack.webhookUrl', notify.slack.webhookUrl),
    clearUrl('notify.webhook.url', notify.webhook.url),
    clearUrl('alerts.heartbeatUrl', alerts.heartbeatUrl),
    isClear(notify.pagerduty.url) && notify.pagerduty.integrationKey !== undefined
      ? ['notify.pagerduty.url', 'integration key', 'write https://']
      : undefined,
    monitor.redisUrl !== undefined && isClear(monitor.redisUrl) && hasUserInfo(monitor.redisUrl)
      ? ['monitor.redisUrl', 'password', 'write rediss://']
      : undefined,
  ];
  return found.flatMap((entry) =>
    entry === undefined ? [] : [`${entry[0]}: ${entry[1]} would be sent in clear text to another machine; ${entry[2]}`],
  );
}

/** Whoever knows such an address can use it: the address is the credential. */
function clearUrl(place: string, url: string | undefined): readonly [string, string, string] | undefined {
  return url !== undefined && isClear(url)
    ? [place, 'the address, which is a credential,', 'write https://']
    : undefined;
}

function isClear(url: string): boolean {
  return /^(?:http|redis):\/\//i.test(url) && !isLoopback(hostOf(url));
}

function hasLogin({ apiKey, password }: { readonly apiKey?: string; readonly password?: string }): boolean {
  return apiKey !== undefined || password !== undefined;
}

function hasUserInfo(url: string): boolean {
  const rest = url.slice(url.indexOf('://') + 3);
  return rest.split('/', 1)[0]!.includes('@');
}

function hostOf(url: string): string {
  try {
    // The names of special schemes alone are read as host names.
    return new URL(url.replace(/^[a-z]+:/i, 'http:')).hostname;
  } catch {
    return '';
  }
}

function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, '');
  return name === 'localhost' || name.endsWith('.localhost') || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name);
}
