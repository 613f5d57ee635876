// The `notify` section: which channels there are and how to reach them. In: YAML. Out: NotifyConfig, frozen. Guarantee:
// every address or key that lets its holder send is marked secret, so it can come from a file and is in no message.

import type { ChannelName } from '../incidents/notification.ts';
import type { Priority } from '../rules/rule-types.ts';

/** Every channel. `history`, the index of transitions, has no section: it exists when Elasticsearch is configured. */
export const CHANNELS = ['slack', 'pagerduty', 'email', 'alertmanager', 'webhook', 'console', 'history'] as const;

const EVERY_MESSAGE = ['alertmanager', 'webhook', 'console'] as const;
const BY_PRIORITY: Readonly<Record<Priority, readonly (typeof CHANNELS)[number][]>> = {
  P1: ['pagerduty', 'slack', 'email', ...EVERY_MESSAGE],
  P2: ['slack', 'email', ...EVERY_MESSAGE],
  P3: ['slack', ...EVERY_MESSAGE],
  P4: [],
};

/** The channels a message of this priority goes to, configured or not; without `history`, which gets every transition. */
export function channelsFor(priority: Priority): readonly ChannelName[] {
  return BY_PRIORITY[priority];
}

const ADDRESS = '^https?://[^\\s]+$';
const AN_ADDRESS = 'an address that begins with http:// or https://, without spaces';
const MAILBOX = '[^\\s@,;<>]+@[^\\s@,;<>]+';

const rate = (value: number) =>
  ({
    type: 'number',
    minimum: 0.01,
    maximum: 100,
    default: value,
    description: 'At most this many messages per second, on average.',
  }) as const;

const headers = {
  type: 'object',
  description: 'Headers sent along, such as `Authorization`.',
  propertyNames: { pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", permitted: 'names of headers, like X-Token' },
  additionalProperties: {
    type: 'string',
    pattern: '^[\\t\\x20-\\x7e]*$',
    permitted: 'ASCII on one line',
    secret: true,
  },
} as const;

export const notifySection = {
  type: 'object',
  description: 'Where alerts are sent. A channel without its address or key is skipped.',
  additionalProperties: false,
  default: {},
  properties: {
    environment: {
      type: 'string',
      minLength: 1,
      maxLength: 200,
      default: 'development',
      description: 'Name of the environment, which every message gives.',
    },
    timeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 120_000,
      default: 10_000,
      description: 'An attempt to send ends after this long, and is repeated later.',
    },
    slack: {
      type: 'object',
      description: 'Slack, by an incoming webhook.',
      additionalProperties: false,
      default: {},
      properties: {
        webhookUrl: {
          type: 'string',
          pattern: ADDRESS,
          permitted: AN_ADDRESS,
          secret: true,
          description: 'Address of the incoming webhook. Also `webhookUrlFile`.',
        },
        username: {
          type: 'string',
          minLength: 1,
          maxLength: 80,
          description: 'Name of the sender. Only older webhooks use it; those of a Slack app have the app’s name.',
        },
        ratePerSecond: rate(1),
      },
    },
    pagerduty: {
      type: 'object',
      description: 'PagerDuty, by the Events API v2.',
      additionalProperties: false,
      default: {},
      properties: {
        url: {
          type: 'string',
          pattern: ADDRESS,
          permitted: AN_ADDRESS,
          default: 'https://events.pagerduty.com/v2/enqueue',
          description: 'Where events are sent; the EU region has an address of its own.',
        },
        integrationKey: {
          type: 'string',
          minLength: 1,
          secret: true,
          description: 'Integration key of the service. Also `integrationKeyFile`.',
        },
        webhookSecrets: {
          type: 'array',
          secret: true,
          minItems: 1,
          items: { type: 'string', secret: true },
          description:
            'Secrets of PagerDuty’s webhook subscriptions (v3), which then acknowledge and resolve here what people acknowledge and resolve there; see docs/api.md. Also `webhookSecretsFile`, one a line.',
        },
        ratePerSecond: rate(2),
      },
    },
    email: {
      type: 'object',
      description: 'E-mail over SMTP.',
      additionalProperties: false,
      default: {},
      dependentRequired: { host: ['from', 'to'], username: ['password'], password: ['username'] },
      properties: {
        host: {
          type: 'string',
          pattern: '^[^\\s/]+$',
          permitted: 'a name or an address without scheme and port, like mail.example.org',
          description: 'Name or address of the mail server.',
        },
        port: { type: 'integer', minimum: 1, maximum: 65_535, default: 587, description: 'Its port.' },
        secure: {
          type: 'boolean',
          default: false,
          description:
            'TLS from the first byte (port 465). Otherwise STARTTLS is used when offered; user and password are never sent without TLS, except to this host itself.',
        },
        username: { type: 'string', minLength: 1, description: 'User name, when the server asks for one.' },
        password: { type: 'string', minLength: 1, secret: true, description: 'Its password. Also `passwordFile`.' },
        from: {
          type: 'string',
          pattern: `^(${MAILBOX}|[^\\r\\n<>]*<${MAILBOX}>)$`,
          permitted: 'an address, or a name and an address: `Name <me@example.org>`',
          description: 'Sender: an address, or `Name <address>`.',
        },
        to: {
          type: 'array',
          minItems: 1,
          items: { type: 'string', pattern: `^${MAILBOX}$`, permitted: 'mail addresses, like me@example.org' },
          description: 'Addresses of the recipients. A comma-separated text is accepted too.',
        },
        ratePerSecond: rate(1),
      },
    },
    alertmanager: {
      type: 'object',
      description:
        'Prometheus’ Alertmanager, for teams that route there already: alerts are sent again before they expire, for as long as they fire.',
      additionalProperties: false,
      default: {},
      properties: {
        urls: {
          type: 'array',
          minItems: 1,
          items: { type: 'string', pattern: ADDRESS, permitted: AN_ADDRESS },
          description: 'Its address, like http://alertmanager:9093; of a cluster all of them, because each is told.',
        },
        headers,
        resendMs: {
          type: 'integer',
          minimum: 1_000,
          maximum: 3_600_000,
          default: 60_000,
          description:
            'What fires is sent again this often. It ends by itself after four times as long without a word.',
        },
        ratePerSecond: rate(10),
      },
    },
    webhook: {
      type: 'object',
      description: 'A receiver of your own: each message is sent to it as JSON, by POST.',
      additionalProperties: false,
      default: {},
      properties: {
        url: {
          type: 'string',
          pattern: ADDRESS,
          permitted: AN_ADDRESS,
          secret: true,
          description: 'Its address, a secret because it may hold a token. Also `urlFile`.',
        },
        headers,
        ratePerSecond: rate(5),
      },
    },
    console: {
      type: 'object',
      description: 'Messages on standard output, for trying out.',
      additionalProperties: false,
      default: {},
      properties: { enabled: { type: 'boolean', default: false, description: 'Print messages.' } },
    },
    kibanaUrl: {
      type: 'string',
      pattern: ADDRESS,
      permitted: AN_ADDRESS,
      description: 'Address of Kibana, with its space if any (`…/s/ops`); messages then link to the time in question.',
    },
    runbookBaseUrl: {
      type: 'string',
      pattern: ADDRESS,
      permitted: AN_ADDRESS,
      description: 'Address that the rules’ runbook paths are appended to; without it, messages name the path.',
    },
  },
} as const;

export interface NotifyConfig {
  readonly environment: string;
  readonly timeoutMs: number;
  readonly slack: { readonly webhookUrl?: string; readonly username?: string; readonly ratePerSecond: number };
  readonly pagerduty: {
    readonly url: string;
    readonly integrationKey?: string;
    readonly webhookSecrets?: readonly string[];
    readonly ratePerSecond: number;
  };
  readonly email: EmailConfig;
  readonly alertmanager: {
    readonly urls?: readonly string[];
    readonly headers?: Readonly<Record<string, string>>;
    readonly resendMs: number;
    readonly ratePerSecond: number;
  };
  readonly webhook: {
    readonly url?: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly ratePerSecond: number;
  };
  readonly console: { readonly enabled: boolean };
  readonly kibanaUrl?: string;
  readonly runbookBaseUrl?: string;
}

export interface EmailConfig {
  readonly host?: string;
  readonly port: number;
  readonly secure: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly from?: string;
  readonly to?: readonly string[];
  readonly ratePerSecond: number;
}
