// The server versions the project is built and tested against, and what is known about each before it is fetched.

export type ServerKind = 'kafka' | 'elasticsearch';
/** The Elasticsearch line asked for; `auto` takes the newest that the installed Java can run. */
export type EsChoice = '8' | '9' | 'auto';
export type EsMajor = Exclude<EsChoice, 'auto'>;

export interface ServerRelease {
  kind: ServerKind;
  version: string;
  /** Least Java feature release that runs it. */
  java: number;
  /** Size of all its jars, megabytes. */
  sizeMb: number;
  /** What Maven is asked for; everything else follows from their own poms. */
  artifacts: readonly string[];
}

export const KAFKA: ServerRelease = {
  kind: 'kafka',
  version: '4.1.1',
  java: 17,
  sizeMb: 45,
  artifacts: ['org.apache.kafka:kafka_2.13:4.1.1'],
};

export const ELASTICSEARCH: Readonly<Record<EsMajor, ServerRelease>> = {
  '9': elasticsearch('9.5.3', 21, 45),
  '8': elasticsearch('8.19.21', 17, 42),
};

function elasticsearch(version: string, java: number, sizeMb: number): ServerRelease {
  return {
    kind: 'elasticsearch',
    version,
    java,
    sizeMb,
    artifacts: [`org.elasticsearch:elasticsearch:${version}`, `org.elasticsearch.plugin:transport-netty4:${version}`],
  };
}
