// E-mail over SMTP. In: a notification. Out: one message to all recipients, as plain text and as HTML; all destinations share a few
// connections. Guarantee: never throws; each recipient has an outcome of its own, and nobody gets a message again because others did not; no log data reaches
// a header unescaped; user and password go over TLS only, or stay on this host; no reason quotes the server.
import { createHash } from 'node:crypto';
import { domainToASCII } from 'node:url';
import { createTransport, type NodemailerError } from 'nodemailer';
import type { Log } from '../core/log.ts';
import type { Masker } from '../core/secrets/mask.ts';
import {
  actionLinks,
  type Channel,
  type ChannelName,
  clean,
  cut,
  escapeHtml,
  type Fact,
  isoTime,
  type LinkOptions,
  maskNotification,
  type Notification,
  oneLine,
  type SendResult,
  subject,
  tellStory,
} from '../incidents/notification.ts';
import { errorCode, isLoopback, withDeadline } from './http-send.ts';
import type { EmailConfig } from './notify-config.ts';

const MAX_SUBJECT = 250;
const MAX_BODY = 20_000;
/** Errors of the message or the configuration: the next attempt would end the same way. */
const HOPELESS = new Set(['EAUTH', 'ENOAUTH', 'ECONFIG', 'EENVELOPE', 'EMESSAGE', 'EMAXRECIPIENTS', 'EFILEACCESS']);
const COMMANDS = /^(?:CONN|EHLO|HELO|STARTTLS|AUTH|MAIL FROM|RCPT TO|DATA)/;

/** However many destinations there are, the server sees no more connections at a time. */
const MAX_CONNECTIONS = 3;
/** A burst of messages shares a connection, and none is left open for long. */
const IDLE_MS = 5_000;

/** The way to the mail server, for every destination. */
export interface Mailer {
  readonly options: MailerOptions;
  readonly transport: ReturnType<typeof createMailTransport>;
  /** Each destination that uses it closes it once; the last one closes its connections. */
  users: number;
}

interface MailerOptions extends EmailConfig {
  readonly host: string;
  readonly from: string;
  readonly timeoutMs: number;
  readonly links: LinkOptions;
}

export function createMailer(options: MailerOptions): Mailer {
  return { options, transport: createMailTransport(options), users: 0 };
}

function createMailTransport({ host, port, secure, username, password, timeoutMs }: MailerOptions) {
  return createTransport({
    pool: true,
    maxConnections: MAX_CONNECTIONS,
    idleTimeout: IDLE_MS,
    // Only what a connection that was closed meanwhile did not take; everything else is the dispatcher's.
    maxRequeues: 1,
    host,
    port,
    secure,
    ...(username === undefined ? {} : { auth: { user: username, pass: password ?? '' } }),
    // A relay on this host has a self-signed certificate, if any, and nobody can listen in between.
    ...(isLoopback(host) ? { ignoreTLS: true } : { requireTLS: username !== undefined }),
    // The attempt's own deadline comes first; without these a connection could outlive it.
    dnsTimeout: timeoutMs + 1_000,
    connectionTimeout: timeoutMs + 1_000,
    greetingTimeout: timeoutMs + 1_000,
    socketTimeout: timeoutMs + 1_000,
    socketCloseTimeout: 0,
    // A message is text: nothing in it may make the library read a file or fetch an address.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
}

/** @param name `email`, or that of a team or a person */
export function createEmail(
  mailer: Mailer,
  { name, to }: { readonly name: ChannelName; readonly to: readonly string[] },
  deps: { masker: Masker; log: Log },
): Channel {
  const { options, transport } = mailer;
  mailer.users += 1;
  let closed = false;

  async function attempt(
    notification: Notification,
    recipients: readonly string[],
    signal: AbortSignal,
  ): Promise<SendResult> {
    const info = await transport.sendMail({
      from: options.from,
      to: [...to],
      envelope: { from: options.from, to: [...recipients] },
      ...mailContent(maskNotification(notification, deps.masker), options.links, name),
      signal,
    });
    return outcome(info.rejectedErrors ?? [], recipients, true);
  }

  /** @param taken at least one recipient took it */
  function outcome(refusals: readonly NodemailerError[], recipients: readonly string[], taken: boolean): SendResult {
    const later = refusals.filter((error) => !isPermanent(error));
    const never = refusals.filter(isPermanent);
    const of = (errors: readonly NodemailerError[]) => [...new Set(errors.map(replyText))].join(', ');
    if (never.length > 0 && (taken || later.length > 0)) {
      deps.log.warn('E-mail: some recipients were refused', {
        refused: never.length,
        recipients: to.length,
        replies: [...new Set(never.map(replyText))],
      });
    }
    if (refusals.length === 0) return { ok: true };
    if (later.length === 0) return taken ? { ok: true } : { ok: false, retryable: false, reason: of(never) };
    const named = new Set(later.map(({ recipient = '' }) => wireForm(recipient)));
    const left = recipients.filter((address) => named.has(wireForm(address)));
    // The server did not say whom it refused: everybody is tried again, rather twice than never.
    if (left.length === 0 || left.length === to.length) return { ok: false, retryable: true, reason: of(later) };
    const reason = `${of(later)} for ${left.length} of ${to.length} recipients`;
    return { ok: false, retryable: true, reason, left };
  }

  return {
    name,
    ratePerSecond: options.ratePerSecond,
    async send(notification, signal, left) {
      // A recipient that is no longer configured is left out.
      const recipients = left === undefined ? to : to.filter((address) => left.includes(address));
      if (recipients.length === 0) return { ok: true };
      return withDeadline(
        options.timeoutMs,
        signal,
        (either) => attempt(notification, recipients, either),
        (error) => {
          const refusals = (error as NodemailerError).rejectedErrors ?? [];
          const all = refusals.length > 0 && refusals.length >= new Set(recipients.map(wireForm)).size;
          return all ? outcome(refusals, recipients, left !== undefined) : failure(error);
        },
      );
    },
    async close() {
      if (closed) return;
      closed = true;
      mailer.users -= 1;
      if (mailer.users === 0) transport.close();
    },
  };
}

/** The address as in the envelope, with its domain in ASCII. */
function wireForm(address: string): string {
  const at = address.lastIndexOf('@');
  return `${address.slice(0, at)}@${domainToASCII(address.slice(at + 1)) || address.slice(at + 1)}`;
}

function isPermanent({ responseCode, permanent }: NodemailerError): boolean {
  return permanent ?? (responseCode !== undefined && responseCode >= 500);
}

function failure(error: unknown): SendResult {
  const { code, originalCode, responseCode } = error as NodemailerError;
  if (responseCode !== undefined) {
    const reason = replyText(error as NodemailerError);
    return { ok: false, retryable: !isPermanent(error as NodemailerError), reason };
  }
  const retryable = !HOPELESS.has(String(code));
  const head = retryable ? 'connection failed' : 'message not sent';
  return { ok: false, retryable, reason: `${head}: ${errorCode({ code: originalCode ?? code })}` };
}

/** Only codes: a server's words may name recipients, users and more. */
function replyText({ responseCode, response, command }: NodemailerError): string {
  const enhanced = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1];
  const stage = COMMANDS.exec(command ?? '')?.[0];
  return `SMTP ${responseCode ?? 'error'}${enhanced === undefined ? '' : ` ${enhanced}`}${stage === undefined ? '' : ` at ${stage}`}`;
}

/** @param notification already masked */
export function mailContent(notification: Notification, options: LinkOptions, channel: ChannelName = 'email') {
  const { incidentId, action, reason, atMs, message } = notification;
  const heading = subject(notification);
  const body = cut(clean(message), MAX_BODY);
  const { facts, links } = tellStory(notification, options);
  const acting = actionLinks(notification, channel, options);
  const told = action === 'inform' ? reportContent(notification, facts) : alertContent(notification, facts);
  const text = [
    ...(body === '' ? [] : [body, '']),
    ...(acting.length === 0 ? [] : [...acting.map(linkText), '']),
    ...told.text,
    ...(links.length === 0 ? [] : ['', ...links.map(linkText)]),
    '',
  ].join('\n');
  const html = [
    `<h2>${escapeHtml(heading)}</h2>`,
    ...(body === '' ? [] : [`<p>${escapeHtml(body).replaceAll('\n', '<br>')}</p>`]),
    ...(acting.length === 0 ? [] : [`<p>${acting.map(linkHtml).join(' &middot; ')}</p>`]),
    ...told.html,
    ...links.map((link) => `<p>${linkHtml(link)}</p>`),
  ].join('\n');
  return {
    subject: cut(heading, MAX_SUBJECT),
    text,
    html,
    date: new Date(atMs),
    // The same for a message that is sent again, so that mailboxes that compare ids keep one.
    messageId: `<${hash(`${incidentId}/${action}/${reason}/${atMs}`)}@logpipe>`,
    // One thread for each incident.
    references: `<${hash(incidentId)}@logpipe>`,
    headers: { 'Auto-Submitted': 'auto-generated' },
  };
}

interface Content {
  readonly text: readonly string[];
  readonly html: readonly string[];
}

function alertContent({ atMs, environment, priority, metadata }: Notification, facts: readonly Fact[]): Content {
  const details = metadata === undefined ? undefined : cut(clean(JSON.stringify(metadata, null, 2)), MAX_BODY);
  const rows = [
    { label: 'Time', lines: [isoTime(atMs)] },
    { label: 'Environment', lines: [oneLine(environment)] },
    { label: 'Priority', lines: [priority] },
    ...facts,
  ];
  const cells = rows.map(
    ({ label, lines }) =>
      `<tr><th align="left" valign="top">${escapeHtml(label)}</th><td>${lines.map(escapeHtml).join('<br>')}</td></tr>`,
  );
  return {
    text: [
      ...rows.flatMap(({ label, lines }) =>
        lines.length === 1 ? [`${label}: ${lines[0]}`] : [`${label}:`, ...lines.map((line) => `  - ${line}`)],
      ),
      ...(details === undefined ? [] : ['', 'Metadata:', details]),
    ],
    html: [
      `<table cellpadding="4">${cells.join('')}</table>`,
      ...(details === undefined ? [] : [`<pre>${escapeHtml(details)}</pre>`]),
    ],
  };
}

/** The daily mail: a heading and a list for each section. */
function reportContent({ environment }: Notification, sections: readonly Fact[]): Content {
  return {
    text: [
      ...sections.flatMap(({ label, lines }) => [label, ...lines.map((line) => `  - ${line}`), '']),
      `Environment: ${oneLine(environment)}`,
    ],
    html: [
      ...sections.map(({ label, lines }) => {
        const items = lines.map((line) => `<li>${escapeHtml(line)}</li>`);
        return `<h3>${escapeHtml(label)}</h3>\n<ul>${items.join('')}</ul>`;
      }),
      `<p>Environment: ${escapeHtml(oneLine(environment))}</p>`,
    ],
  };
}

type MailLink = ReturnType<typeof actionLinks>[number];

function linkText({ label, url }: MailLink): string {
  return `${label}: ${url}`;
}

function linkHtml({ label, url }: MailLink): string {
  return `<a href="${escapeHtml(url)}">${escapeHtml(label)}</a>`;
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
