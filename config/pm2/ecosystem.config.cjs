// PM2's view of the platform and of logpipe: `pm2 start config/pm2/ecosystem.config.cjs`, or `--only logpipe,logpipe-pm2`.
// Settings travel in the environment: KAFKA_BROKERS, ELASTICSEARCH_URL, SLACK_WEBHOOK_URL … as in config/logpipe.yml.
const { existsSync } = require('node:fs');
const { join, resolve } = require('node:path');

const root = resolve(__dirname, '../..');
const { env } = process;
const example = join(root, 'dist/examples/calling-platform/main.js');

const shared = {
  cwd: env.LOGPIPE_CWD || root,
  // PM2 need not read the git folder at each start.
  vizion: false,
  autorestart: true,
  exp_backoff_restart_delay: 200,
  max_restarts: 10,
  min_uptime: 5_000,
  merge_logs: true,
  time: false,
};

const logpipe = (name, args) => ({
  ...shared,
  name,
  script: join(root, 'dist/src/main.js'),
  args,
  interpreter_args: '--max-semi-space-size=16 --v8-pool-size=2',
  // Instances share the work through Kafka, not through a port: never cluster mode.
  exec_mode: 'fork',
  instances: 1,
  // Above shutdownTimeoutMs: PM2 must not kill what is still being finished.
  kill_timeout: 25_000,
});

module.exports = {
  apps: [
    logpipe('logpipe', 'run'),
    // Under PM2 it cannot tell that PM2 itself is gone; docs/pm2.md shows it under systemd.
    logpipe('logpipe-pm2', 'pm2 watch'),
    // The sample application, where this is a clone of the repository. Put yours here.
    ...(existsSync(example)
      ? [
          {
            ...shared,
            name: 'calling-platform',
            script: example,
            args: [
              ...(env.KAFKA_BROKERS ? ['--brokers', env.KAFKA_BROKERS] : []),
              ...['--port', env.PORT || '3000', '--rate', env.EXAMPLE_RATE || '20'],
              ...['--log-file', env.EXAMPLE_LOG || 'logs/app.log'],
              // Workers share the port of the application; each one's /metrics is on a port of its own.
              ...['--metrics-port', env.METRICS_PORT || '3100'],
            ],
            exec_mode: 'cluster',
            instances: Number(env.INSTANCES || 2),
            // It says `ready` when it listens; only then the worker it replaces is asked to end.
            wait_ready: true,
            listen_timeout: 10_000,
            kill_timeout: 25_000,
            env: { NODE_ENV: env.NODE_ENV || 'production' },
          },
        ]
      : []),
  ],
};
