// Types for the parts of kafkajs 2.2.4 (the version is pinned) that have none, as far as they are used.
declare module 'kafkajs/src/broker/index.js' {
  export interface Protocol {
    readonly request: { readonly apiVersion: number; encode(): Promise<unknown> };
    readonly response: { decode(bytes: Buffer): Promise<unknown>; parse(answer: never): Promise<unknown> };
  }
  export default class Broker {
    constructor(options: {
      connectionPool: object;
      logger: object;
      nodeId?: number | null;
      allowAutoTopicCreation?: boolean;
    });
    readonly connectionPool: { send(protocol: object): Promise<unknown> };
    readonly lookupRequest: (apiKey: number, definition: unknown) => (options: object) => Protocol;
    isConnected(): boolean;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
  }
}
declare module 'kafkajs/src/network/connectionPool.js' {
  const ConnectionPool: new (options: object) => object;
  export default ConnectionPool;
}
declare module 'kafkajs/src/loggers/index.js' {
  const loggers: { createLogger(options: object): object };
  export default loggers;
}
declare module 'kafkajs/src/protocol/requests/index.js' {
  const table: {
    requests: Readonly<Record<'Fetch' | 'InitProducerId' | 'ListOffsets' | 'Metadata' | 'Produce', unknown>>;
  };
  export default table;
}
declare module 'kafkajs/src/protocol/requests/apiKeys.js' {
  const keys: Readonly<Record<'Fetch' | 'InitProducerId' | 'ListOffsets' | 'Metadata' | 'Produce', number>>;
  export default keys;
}
declare module 'kafkajs/src/protocol/error.js' {
  const errors: { createErrorFromCode(code: number): Error & { readonly type: string; readonly retriable: boolean } };
  export default errors;
}
declare module 'kafkajs/src/protocol/encoder.js' {
  export default class Encoder {
    writeBuffer(bytes: Buffer): Encoder;
  }
}
declare module 'kafkajs/src/protocol/recordBatch/crc32C/index.js' {
  export default function crc32C(bytes: Buffer): number;
}
declare module 'kafkajs/src/consumer/filterAbortedMessages.js' {
  export default function filterAbortedMessages<T>(fetched: {
    readonly messages: T[];
    readonly abortedTransactions: readonly { producerId: string; firstOffset: string }[];
  }): T[];
}
