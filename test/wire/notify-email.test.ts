// E-mail at a real SMTP server: the whole message as parsed at the other end, every class of reply, and no way into a
// header.

import { type AddressInfo, type connect, createServer, type Server } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import type { Log } from '../../src/core/log.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { type Channel, CUT } from '../../src/incidents/notification.ts';
import { createChannels } from '../../src/notify/dispatcher.ts';
import type { EmailConfig } from '../../src/notify/notify-config.ts';
import { type MailReceiver, smtpError, startMailReceiver } from '../kit/mail-receiver.ts';
import { AT_MS, notification } from '../kit/notifications.ts';

const never = new AbortController().signal;
const lines: string[] = [];
const say = (message: string, meta?: object) => void lines.push(`${message} ${JSON.stringify(meta ?? {})}`);
const log: Log = { error: say, warn: say, info: say, debug: say };

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  lines.length = 0;
  for (const close of open.splice(0).reverse()) await close();
});

async function mailServer(options: Parameters<typeof startMailReceiver>[0] = {}): Promise<MailReceiver> {
  const server = await startMailReceiver(options);
  open.push(server.close);
  return server;
}

function email(port: number, changes: Partial<EmailConfig> = {}, timeoutMs = 10_000): Channel {
  const channels = createChannels(
    {
      environment: 'test',
      timeoutMs,
      slack: { ratePerSecond: 1 },
      pagerduty: { url: 'https://x.example', ratePerSecond: 1 },
      alertmanager: { resendMs: 60_000, ratePerSecond: 1 },
      webhook: { ratePerSecond: 1 },
      console: { enabled: false },
      kibanaUrl: 'https://kibana.example',
      runbookBaseUrl: 'https://wiki.example/r',
      email: {
        host: '127.0.0.1',
        port,
        secure: false,
        from: 'Calling Platform <alerts@calls.example>',
        to: ['one@ops.example', 'two@ops.example'],
        ratePerSecond: 1,
        ...changes,
      },
    },
    undefined,
    { clock: systemClock, log, masker: createMasker(), out: new PassThrough() },
  );
  const channel = channels.get('email') as Channel;
  open.push(channel.close);
  return channel;
}

const KIBANA =
  "https://kibana.example/app/discover#/?_g=(time:(from:'2026-11-25T10:00:00.000Z',to:'2026-11-25T10:05:00.000Z'))";

describe('the message', () => {
  test('is the alert as plain text and as HTML, to all recipients', async () => {
    const server = await mailServer();
    expect(await email(server.port).send(notification(), never)).toEqual({ ok: true });
    expect(server.mails).toHaveLength(1);
    const { from, to, parsed } = server.mails[0]!;
    expect({ from, to }).toEqual({ from: 'alerts@calls.example', to: ['one@ops.example', 'two@ops.example'] });
    expect(parsed.subject).toBe('CRITICAL: High Error Rate Detected');
    expect(parsed.from?.text).toBe('"Calling Platform" <alerts@calls.example>');
    expect(parsed.date).toEqual(new Date(AT_MS));
    expect(parsed.headers.get('auto-submitted')).toBe('auto-generated');
    expect(parsed.text).toBe(
      `${[
        'Error rate is 23.08%, above the threshold of 20%',
        '',
        'Time: 2026-11-25T10:05:00.000Z',
        'Environment: production',
        'Priority: P1',
        'Why: call.failure_ratio over 5 min: 23.08 % (threshold 20 %), from 130 events',
        'First seen: 2026-11-25T10:04:00.000Z',
        'Top errors:',
        '  - 17 × Carrier refused call <id>',
        '  - 9 × Timeout after <n> ms',
        'Example events: ev-1, ev-2',
        'Release: errors stand out in 2.4.1',
        '',
        'Metadata:',
        '{\n  "totalCalls": 130,\n  "failedCalls": 30,\n  "errorRate": 23.08\n}',
        '',
        `Events in Kibana: ${KIBANA}`,
        'Runbook: https://wiki.example/r/high-error-rate.md',
      ].join('\n')}\n`,
    );
    const row = (label: string, value: string) =>
      `<tr><th align="left" valign="top">${label}</th><td>${value}</td></tr>`;
    expect(parsed.html).toBe(
      [
        '<h2>CRITICAL: High Error Rate Detected</h2>',
        '<p>Error rate is 23.08%, above the threshold of 20%</p>',
        `<table cellpadding="4">${[
          row('Time', '2026-11-25T10:05:00.000Z'),
          row('Environment', 'production'),
          row('Priority', 'P1'),
          row('Why', 'call.failure_ratio over 5 min: 23.08 % (threshold 20 %), from 130 events'),
          row('First seen', '2026-11-25T10:04:00.000Z'),
          row('Top errors', '17 × Carrier refused call &lt;id&gt;<br>9 × Timeout after &lt;n&gt; ms'),
          row('Example events', 'ev-1, ev-2'),
          row('Release', 'errors stand out in 2.4.1'),
        ].join('')}</table>`,
        '<pre>{\n  &quot;totalCalls&quot;: 130,\n  &quot;failedCalls&quot;: 30,\n  &quot;errorRate&quot;: 23.08\n}</pre>',
        `<p><a href="${KIBANA.replaceAll("'", '&#39;')}">Events in Kibana</a></p>`,
        '<p><a href="https://wiki.example/r/high-error-rate.md">Runbook</a></p>',
      ].join('\n'),
    );
  });

  test('sent again is the same message; an incident’s messages are one thread', async () => {
    const server = await mailServer();
    const channel = email(server.port);
    await channel.send(notification(), never);
    await channel.send(notification(), never);
    await channel.send(notification({ action: 'resolve', reason: 'all-resolved', atMs: AT_MS + 1 }), never);
    const [first, again, resolved] = server.mails.map(({ parsed }) => parsed);
    expect(again!.messageId).toBe(first!.messageId);
    expect(resolved!.messageId).not.toBe(first!.messageId);
    expect(resolved!.references).toEqual(first!.references);
    expect(resolved!.subject).toBe('RESOLVED: High Error Rate Detected');
  });

  test('log data adds no header and no recipient, starts no tag, and shows no secret', async () => {
    const server = await mailServer();
    const message = notification({
      severity: 'warning',
      title: 'Bad\r\nBcc: victim@evil.example\r\n\r\n<script>\u0000',
      message: '.\r\nRCPT TO:<victim@evil.example>\r\n<img src=x onerror="a(\'b\')"> password=hunter2',
      environment: 'prod\r\nX-Injected: 1',
      metadata: { token: 'hunter3', html: '</pre><b>' },
    });
    expect(await email(server.port).send(message, never)).toEqual({ ok: true });
    const { to, parsed, raw } = server.mails[0]!;
    expect(to).toEqual(['one@ops.example', 'two@ops.example']);
    expect(parsed.subject).toBe('WARNING: Bad Bcc: victim@evil.example <script>');
    expect([...parsed.headers.keys()].sort()).toEqual(
      [
        'auto-submitted',
        'content-type',
        'date',
        'from',
        'message-id',
        'mime-version',
        'references',
        'subject',
        'to',
      ].sort(),
    );
    expect(parsed.text).toMatch(
      /^\.\nRCPT TO:<victim@evil\.example>\n<img src=x onerror="a\('b'\)"> password=\[masked\]\n/,
    );
    expect(parsed.html).toContain('&lt;img src=x onerror=&quot;a(&#39;b&#39;)&quot;&gt;');
    expect(parsed.html).not.toMatch(/<(?:script|img|b)\b/);
    expect(raw + parsed.text + parsed.html).not.toMatch(/hunter[23]/);
  });

  test('over-long parts are cut with a marker', async () => {
    const server = await mailServer();
    const long = 'ü'.repeat(100_000);
    await email(server.port).send(notification({ title: long, message: long, metadata: { long } }), never);
    const { subject, text } = server.mails[0]!.parsed;
    expect(subject).toHaveLength(250);
    expect(subject!.endsWith(CUT)).toBe(true);
    expect(text!.split(CUT)).toHaveLength(3);
    expect(text!.length).toBeLessThan(50_000);
  });
});

describe('the server', () => {
  const refusing = (command: 'onMailFrom' | 'onRcptTo', error: Error) =>
    mailServer({
      [command]: (_address: unknown, _session: unknown, callback: (error: Error) => void) => callback(error),
    });

  test.each([
    ['onMailFrom', 451, '4.3.0 try later', true, 'SMTP 451 4.3.0 at MAIL FROM'],
    ['onMailFrom', 553, 'alerts@calls.example is not yours', false, 'SMTP 553 at MAIL FROM'],
    ['onRcptTo', 450, '4.2.1 one@ops.example is busy', true, 'SMTP 450 4.2.1 at RCPT TO'],
    ['onRcptTo', 550, '5.1.1 no one@ops.example here', false, 'SMTP 550 5.1.1 at RCPT TO'],
  ] as const)('%s %d is %s: retried %s', async (command, code, text, retryable, reason) => {
    const server = await refusing(command, smtpError(code, text));
    expect(await email(server.port).send(notification(), never)).toEqual({ ok: false, retryable, reason });
    expect(server.mails).toEqual([]);
  });

  test('one recipient refused: the others have it, and it is said without naming anybody', async () => {
    const server = await mailServer({
      onRcptTo: ({ address }, _session, callback) =>
        callback(address.startsWith('two') ? smtpError(550, '5.1.1 two@ops.example unknown') : null),
    });
    expect(await email(server.port).send(notification(), never)).toEqual({ ok: true });
    expect(server.mails.map(({ to }) => to)).toEqual([['one@ops.example']]);
    expect(lines.filter((line) => line.startsWith('E-mail'))).toEqual([
      'E-mail: some recipients were refused {"refused":1,"recipients":2,"replies":["SMTP 550 5.1.1 at RCPT TO"]}',
    ]);
  });

  test('one recipient greylisted: the others have the message once, and it alone is tried again', async () => {
    const busy = new Set(['two@ops.example', 'three@münchen.example']);
    const server = await mailServer({
      onRcptTo: ({ address }, _session, callback) => {
        const known = address.replace('xn--mnchen-3ya', 'münchen');
        if (known.startsWith('gone')) return callback(smtpError(550, '5.1.1 unknown'));
        callback(busy.delete(known) ? smtpError(450, '4.2.0 greylisted, come back') : null);
      },
    });
    const to = ['one@ops.example', 'two@ops.example', 'three@münchen.example', 'gone@ops.example'];
    const channel = email(server.port, { to });
    const first = await channel.send(notification(), never);
    expect(first).toEqual({
      ok: false,
      retryable: true,
      reason: 'SMTP 450 4.2.0 at RCPT TO for 2 of 4 recipients',
      left: ['two@ops.example', 'three@münchen.example'],
    });
    busy.add('two@ops.example');
    const left = ['two@ops.example', 'three@münchen.example'];
    const second = await channel.send(notification(), never, left);
    expect(second).toMatchObject({ ok: false, retryable: true, left: ['two@ops.example'] });
    expect(await channel.send(notification(), never, ['two@ops.example'])).toEqual({ ok: true });
    expect(server.mails.map((mail) => mail.to)).toEqual([
      ['one@ops.example'],
      ['three@münchen.example'],
      ['two@ops.example'],
    ]);
    // It is one message, whoever gets it when.
    expect(new Set(server.mails.map(({ parsed }) => parsed.messageId)).size).toBe(1);
    expect(lines.filter((line) => line.startsWith('E-mail'))).toEqual([
      'E-mail: some recipients were refused {"refused":1,"recipients":4,"replies":["SMTP 550 5.1.1 at RCPT TO"]}',
    ]);
    expect(await channel.send(notification(), never, ['no-longer@ops.example'])).toEqual({ ok: true });
    expect(server.mails).toHaveLength(3);
  });

  test('all refused, one of them for now: that one is tried again', async () => {
    const server = await mailServer({
      onRcptTo: ({ address }, _session, callback) =>
        callback(address.startsWith('one') ? smtpError(451, '4.7.1 later') : smtpError(550, '5.1.1 unknown')),
    });
    expect(await email(server.port).send(notification(), never)).toEqual({
      ok: false,
      retryable: true,
      reason: 'SMTP 451 4.7.1 at RCPT TO for 1 of 2 recipients',
      left: ['one@ops.example'],
    });
  });

  test('logs in on this host; a wrong password is given up without repeating it', async () => {
    const login = { username: 'logpipe', password: 'smtpSecret42' };
    const server = await mailServer({ authOptional: false });
    expect(await email(server.port, login).send(notification(), never)).toEqual({ ok: true });
    expect(server.logins).toEqual([login]);
    const strict = await mailServer({
      onAuth: ({ username, password }, _session, callback) =>
        callback(smtpError(535, `5.7.8 ${username} ${password} is wrong`)),
    });
    expect(await email(strict.port, login).send(notification(), never)).toEqual({
      ok: false,
      retryable: false,
      reason: 'SMTP 535 5.7.8 at AUTH',
    });
    expect(lines.join('\n')).not.toMatch(/smtpSecret42|logpipe/);
  });

  test('never gives a password to another host without TLS', async () => {
    const server = await mailServer();
    // 0.0.0.0 leads here as well, but is no loopback address.
    const channel = email(server.port, { host: '0.0.0.0', username: 'logpipe', password: 'smtpSecret42' });
    expect(await channel.send(notification(), never)).toMatchObject({ ok: false });
    expect(server.logins).toEqual([]);
    expect(server.mails).toEqual([]);
    expect(await email(server.port, { host: '0.0.0.0' }).send(notification(), never)).toEqual({ ok: true });
  });

  test('that is not there, hangs or breaks off is tried again', async () => {
    const closed = await startMailReceiver();
    await closed.close();
    expect(await email(closed.port).send(notification(), never)).toEqual({
      ok: false,
      retryable: true,
      reason: 'connection failed: ECONNREFUSED',
    });
    const hanging = await rawServer(() => {});
    expect(await email(hanging, {}, 150).send(notification(), never)).toEqual({
      ok: false,
      retryable: true,
      reason: 'no answer within 150 ms',
    });
    const breaking = await rawServer((socket) => socket.end());
    expect(await email(breaking).send(notification(), never)).toMatchObject({ ok: false, retryable: true });
  });

  test('a stop ends a send under way at once', async () => {
    const stop = new AbortController();
    const hanging = await rawServer(() => stop.abort());
    expect(await email(hanging, {}, 60_000).send(notification(), stop.signal)).toEqual({
      ok: false,
      retryable: true,
      reason: 'stopped before an answer',
    });
  });

  /** A TCP server that does with a connection what it likes; resolves to its port. */
  async function rawServer(onConnection: (socket: ReturnType<typeof connect>) => void): Promise<number> {
    const sockets = new Set<ReturnType<typeof connect>>();
    const server: Server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      onConnection(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    open.push(() => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    });
    return (server.address() as AddressInfo).port;
  }
});
