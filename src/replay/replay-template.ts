// The index template of replays into indices of their own, and its installation. The mappings are those of the live log
// indices; its pattern is none of theirs, and its priority is its own.
import type { Client } from '@elastic/elasticsearch';
import type { Log } from '../core/log.ts';
import { type IndexTemplate, indexTemplate, installIndexTemplate, type TemplateResult } from '../indexing/template.ts';

export const REPLAY_PREFIX = 'logpipe-replay-';
export const REPLAY_TEMPLATE_NAME = 'logpipe-replay';
/** Another one than that of every other template of logpipe: equal ones must not match the same index. */
const PRIORITY = 220;

/** The template as shipped in config/elasticsearch/; its version follows the live one's, whose mappings it has. */
export function replayTemplate(): IndexTemplate {
  return {
    ...indexTemplate(),
    index_patterns: [`${REPLAY_PREFIX}*`],
    priority: PRIORITY,
    _meta: { managed_by: 'logpipe', description: 'Replayed logs, one index per replay and UTC day' },
  };
}

/** @throws LogpipeError LOGPIPE_TEMPLATE_NEWER when the server's is newer; the client's errors otherwise */
export function installReplayTemplate(client: Client, log: Log): Promise<TemplateResult> {
  return installIndexTemplate(client, REPLAY_TEMPLATE_NAME, replayTemplate(), log);
}
