// A real Kafka and a real Elasticsearch on this machine without Docker: what the rest of the project may use of it.
export {
  type Cluster,
  type ClusterLayout,
  type ClusterMember,
  type ClusterOptions,
  type MemberName,
  type MemberOptions,
  type MemberPorts,
  MOST_MEMBERS,
  memberName,
  memberNames,
  planLayout,
  startCluster,
  startMember,
} from './cluster.ts';
export { dockerAvailable } from './docker.ts';
export {
  type ElasticsearchOptions,
  type ElasticsearchServer,
  healthYellow,
  startElasticsearch,
} from './elasticsearch.ts';
export {
  elasticsearchFor,
  findJdks,
  findMaven,
  INSTALL_JDK,
  INSTALL_JDK_21,
  INSTALL_MAVEN,
  type Jdk,
  parseJavaVersion,
} from './java.ts';
export type { LocalServer, ServerOptions } from './jvm.ts';
export { coordinatorAnswers, type KafkaOptions, type KafkaServer, kafkaProperties, startKafka } from './kafka.ts';
export { type DownloadPlan, fetchLibs, libRoot, type Progress, planDownload } from './libs.ts';
export { withLock } from './lock.ts';
export { endProcess, processStart } from './pids.ts';
export { freePorts, portFree } from './ports.ts';
export { recordClasses } from './quick-start.ts';
export { type StackRequirements, stackRequirements } from './requirements.ts';
export { entryAlive, readState, type StackEntry, type StackState, stackFolder, writeState } from './state.ts';
export { ELASTICSEARCH, type EsChoice, type EsMajor, KAFKA, type ServerKind, type ServerRelease } from './versions.ts';
