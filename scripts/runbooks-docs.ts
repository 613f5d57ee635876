// Makes docs/runbooks/README.md from the shipped rules: each with its condition in one line and a link to its runbook.

import type { Measures } from '../src/measure/measure-config.ts';
import type { Rules } from '../src/rules/rule-config.ts';
import type { Bound, MeasuredRule, Rule } from '../src/rules/rule-types.ts';
import { formatDuration, formatThreshold } from '../src/rules/words.ts';
import { code, document, table } from './markdown.ts';

const INTRO = `# Runbooks

One page per alert: what it means, three first checks with commands to paste, usual causes, what to do, when it ends by itself, how
to tune it. Each message names its page; with \`notify.runbookBaseUrl\` it links to it.

The commands read two variables:

\`\`\`sh
export ELASTICSEARCH_URL=http://localhost:9200
export KAFKA_BROKERS=localhost:9092
\`\`\`

\`logpipe alerts show\` reads the alert state itself and works while Elasticsearch is down. An event named under “Example events” is
found with \`curl -s "$ELASTICSEARCH_URL/calling-platform-*/_search?q=eventId:…&pretty"\`, or, still in Kafka, with
\`npx logpipe tail --since -1h --where eventId=…\`. The Kafka commands are those of its own distribution (\`kafka-….sh\`) and kcat.

P1 goes to PagerDuty, Slack and e-mail; P2 to Slack and e-mail; P3 to Slack; P4 is collected. How rules work:
[rules.md](../rules.md). How alerts are sent: [alerting.md](../alerting.md).`;

const OPERATORS: Record<Bound['op'], string> = {
  above: 'above',
  below: 'below',
  atLeast: 'at least',
  atMost: 'at most',
};

export function runbooksDocs(measures: Measures, rules: Rules): string {
  const groups = [...new Set(rules.map(({ group }) => group))];
  return document([
    INTRO,
    '## Shipped rules',
    'Rules of one group that fire together are one incident.',
    table(
      ['alert', 'priority', 'group', 'when', 'muted by'],
      groups.flatMap((group) =>
        rules
          .filter((rule) => rule.group === group)
          .map((rule) => [
            `[${rule.title}](${rule.id}.md)`,
            rule.priority,
            group,
            conditionText(measures, rule),
            rule.inhibitedBy.map(code).join(', '),
          ]),
      ),
    ),
    'In addition there is [Log pipeline blind](log-pipeline-blind.md), P1: Kafka has been gone for a minute. It is not a rule.\nTwo more are sent by Prometheus, if one is watching: [logpipe does not answer](logpipe-down.md) and [Alerts do not get\nthrough](notifications-failing.md).',
  ]);
}

function conditionText(measures: Measures, rule: Rule): string {
  const held = rule.forMs > 0 ? `, for ${formatDuration(rule.forMs)}` : '';
  return `${judged(measures, rule)}${held}`;
}

function judged(measures: Measures, rule: Rule): string {
  if (rule.kind === 'late') return 'something would have fired, had it been known in time';
  const what = `${code(rule.measure)}${rule.labels.length === 0 ? '' : ` per ${rule.labels.map(code).join(', ')}`}`;
  const { message } = rule;
  switch (rule.kind) {
    case 'threshold':
    case 'ratio':
    case 'percentile': {
      const fallback = rule.fallback === undefined ? '' : ` (else ${code(rule.fallback)})`;
      const readings = rule.over === 'newest' ? '' : `, ${rule.over} of ${formatDuration(rule.windowMs)}`;
      const counted = ['increase', 'rate', 'counter'].includes(measures.get(rule.measure)!.kind);
      const window = rule.minEvents > 1 || counted ? `, ${formatDuration(rule.windowMs)}` : '';
      const events = rule.minEvents > 1 ? `, ${rule.minEvents} events and more` : '';
      const { onlyWhile } = rule;
      const gate =
        onlyWhile === undefined
          ? ''
          : `, while ${code(onlyWhile.measure)} is ${OPERATORS[onlyWhile.bound.op]} ${onlyWhile.bound.value}`;
      const others = rule.againstOthers === undefined ? '' : `, ${rule.againstOthers} times that of all others`;
      return `${what}${fallback} ${boundText(rule.bound, rule)}${readings}${window}${events}${others}${gate}`;
    }
    case 'absence':
      return `${what} ${boundText(rule.bound, rule)}`;
    case 'spike':
      return `${what} above ${formatThreshold(rule.floor, rule.unit)} and ${rule.factor} times the past ${formatDuration(rule.baselineMs)}, ${formatDuration(rule.windowMs)}`;
    case 'low-volume':
      return `${what} ${boundText(rule.bound, rule)} of the last ${rule.last} within ${formatDuration(rule.windowMs)}, ${rule.minEvents} and more, while too few for ${code(rule.insteadOf)}`;
    case 'first-seen':
      return `${what} never seen before, ${rule.minEvents} times in ${formatDuration(rule.windowMs)}`;
    case 'trend':
      return `${what} ${rule.factor} times that of ${days(rule.offsetMs)} ago and ${formatThreshold(rule.floor, rule.unit)} higher, ${formatDuration(rule.windowMs)}`;
    default:
      return `${what}: ${message}`;
  }
}

function boundText({ op, value }: Bound, { unit }: MeasuredRule): string {
  return `${OPERATORS[op]} ${formatThreshold(value, unit)}`;
}

function days(ms: number): string {
  return `${ms / 86_400_000} days`;
}
