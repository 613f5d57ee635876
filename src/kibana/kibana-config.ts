// The `kibana` section: where Kibana is and how to log in, for importing its objects. In: YAML. Out: KibanaConfig.

export const kibanaSection = {
  type: 'object',
  description: 'Kibana, for `logpipe kibana import`; nothing else uses it.',
  additionalProperties: false,
  default: {},
  properties: {
    url: {
      type: 'string',
      // It must hold no user or password, because messages repeat it.
      pattern: '^https?://',
      permitted: 'an address that begins with http:// or https://',
      default: 'http://localhost:5601',
      description: 'Address of Kibana, with its base path and space, if any (`…/s/ops`). `--url` takes precedence.',
    },
    space: {
      type: 'string',
      pattern: '^[a-z0-9_-]+$',
      permitted: 'small letters, digits, hyphens and underscores: the id of a space, not its name',
      description:
        'Space to import into. Default: the one in the address, else the default space. `--space` takes precedence.',
    },
    apiKey: {
      type: 'string',
      minLength: 1,
      secret: true,
      description: 'API key (base64 form). Also `apiKeyFile`. `--api-key` takes precedence.',
    },
    username: { type: 'string', minLength: 1, description: 'User for basic authentication.' },
    password: { type: 'string', minLength: 1, secret: true, description: 'Its password. Also `passwordFile`.' },
    caFile: {
      type: 'string',
      minLength: 1,
      description: 'PEM file of the certificate authority that signed Kibana’s certificate.',
    },
    requestTimeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 600_000,
      default: 60_000,
      description: 'An import without an answer for this long has failed.',
    },
  },
  dependentRequired: { username: ['password'], password: ['username'] },
} as const;

export interface KibanaConfig {
  readonly url: string;
  readonly space?: string;
  readonly apiKey?: string;
  readonly username?: string;
  readonly password?: string;
  readonly caFile?: string;
  readonly requestTimeoutMs: number;
}
