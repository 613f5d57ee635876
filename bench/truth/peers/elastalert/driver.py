"""ElastAlert 2 over a scenario's documents, on a clock of its own.

In: a folder with the rules, and files of documents with the time at which each becomes visible. Out: on standard output a line of
JSON for each message it would send, with the time. Guarantee: queries, matches, realerts and what is written back are ElastAlert's
own code on a real Elasticsearch; only its clock is replaced, and a document is indexed when the clock has reached it.
"""
import datetime
import json
import logging
import sys
import types
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from elastalert import ElasticSearchClient
from elastalert import create_index, elastalert, ruletypes
from elastalert.alerts import Alerter
from elastalert.util import build_es_conn_config, elasticsearch_client, lookup_es_key

# Documents of one request, characters.
BULK = 4_000_000

now_ms = 0
failures = []

# ElastAlert prints too.
output, sys.stdout = sys.stdout, sys.stderr


def now():
    return datetime.datetime.fromtimestamp(now_ms / 1000, tz=datetime.timezone.utc)


def say(message):
    # In one piece, because rules run in threads.
    output.write(json.dumps(message, default=str) + '\n')
    output.flush()


class NotingAlerter(Alerter):
    """Says what would be sent, and when."""

    required_options = frozenset()

    def alert(self, matches):
        for match in matches:
            keys = self.rule.get('compound_query_key') or [self.rule.get('query_key')]
            values = {key: lookup_es_key(match, key) for key in keys if key}
            if len(keys) > 1:
                values = dict(zip(keys, str(match.get(self.rule['query_key'])).split(',')))
            if 'new_field' in match:
                values = {match['new_field']: lookup_es_key(match, match['new_field'])}
            labels = {key: str(value).strip() for key, value in values.items() if value is not None}
            say({'atMs': now_ms, 'rule': self.rule['name'], 'labels': labels})

    def get_info(self):
        return {'type': 'noting'}


def use_own_clock():
    elastalert.ts_now = now
    ruletypes.ts_now = now
    # `alert: bench.truth.NotingAlerter` in base.yaml.
    module = types.ModuleType('bench.truth')
    module.NotingAlerter = NotingAlerter
    sys.modules['bench'] = types.ModuleType('bench')
    sys.modules['bench.truth'] = module


def keep_no_runs():
    """After each run of each rule it notes how far it has come, for its next start, which there is none of here.

    What it notes of errors, and lives with, ends the comparison: a rule that did not run has missed nothing.
    """
    write = elastalert.ElastAlerter.writeback

    def writeback(self, doc_type, body, *rest, **named):
        if doc_type == 'elastalert_error':
            failures.append(body['message'])
        if doc_type != 'elastalert_status':
            return write(self, doc_type, body, *rest, **named)

    elastalert.ElastAlerter.writeback = writeback


def use_version(version):
    # The Elasticsearch of this project's stack answers everything but GET /, where the client asks for its version.
    ElasticSearchClient.es_version = property(lambda self: version)
    create_index.get_version_from_cluster_info = lambda client: version
    # It waits for the new indices, which are there by the time the server answers.
    create_index.time = types.SimpleNamespace(sleep=lambda seconds: None)


class Documents:
    """Lines of `visible at, ms <tab> action <tab> document`, in order of time."""

    def __init__(self, path, url):
        self.file = open(path, encoding='utf-8')
        self.url = url
        self.line = self.file.readline()

    def index_until(self, ms):
        parts, size = [], 0
        while self.line:
            visible, action, document = self.line.split('\t', 2)
            if float(visible) > ms:
                break
            parts += (action, '\n', document)
            size += len(document)
            if size > BULK:
                self.send(parts)
                parts, size = [], 0
            self.line = self.file.readline()
        self.send(parts)
        request(self.url, 'POST', '/calling-platform-*/_refresh')

    def send(self, parts):
        if not parts:
            return
        answer = request(self.url, 'POST', '/_bulk', ''.join(parts))
        for item in answer['items']:
            result = item['create']
            # 409: it is there already, delivered twice.
            if result['status'] not in (201, 409):
                raise RuntimeError(f'Elasticsearch refused a document: {result}')


def request(url, method, path, body=None):
    data = None if body is None else body.encode()
    headers = {'content-type': 'application/x-ndjson'}
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method)) as answer:
        return json.load(answer)


def run(scenario, url, connection, config):
    """One scenario, from an empty Elasticsearch and a new ElastAlert."""
    global now_ms
    for pattern in ('calling-platform-*', 'elastalert*'):
        names = [one['index'] for one in request(url, 'GET', f'/_cat/indices/{pattern}?format=json')]
        for name in names:
            request(url, 'DELETE', f'/{name}')
    now_ms = scenario['fromMs']
    client = elasticsearch_client(connection)
    create_index.create_index_mappings(es_client=client, ea_index='elastalert')
    documents = Documents(scenario['documents'], url)
    # What was there before it started, as the first query of new_term finds it.
    documents.index_until(now_ms)
    alerter = elastalert.ElastAlerter(['--config', config])
    alerter.scheduler.remove_all_jobs()
    pool = ThreadPoolExecutor(max_workers=4)
    step = int(alerter.run_every.total_seconds() * 1000)
    # Once more after the end, for what happened since the last run.
    while now_ms < scenario['toMs'] + step:
        documents.index_until(now_ms)
        # In threads, as it does itself.
        list(pool.map(alerter.handle_rule_execution, list(alerter.rules)))
        if failures:
            raise RuntimeError(f'ElastAlert: {failures[0]}')
        now_ms += step
    pool.shutdown()
    say({'done': scenario['name'], 'rules': len(alerter.rules)})


def main():
    """Scenarios come as lines of JSON on standard input; each is answered by its messages and a line `done`."""
    logging.getLogger('elastalert').setLevel(logging.ERROR)
    url, config, version = sys.argv[1:4]
    use_own_clock()
    keep_no_runs()
    use_version(version)
    host, port = url.removeprefix('http://').split(':')
    connection = build_es_conn_config({'es_host': host, 'es_port': int(port)})
    for line in sys.stdin:
        run(json.loads(line), url, connection, config)


if __name__ == '__main__':
    main()
