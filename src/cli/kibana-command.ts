// `logpipe kibana`: its options and examples.
import type { Command } from 'commander';
import type { CommandKit } from './command-kit.ts';

export function addKibanaCommand(program: Command, { io, withConfig, load, finish }: CommandKit): void {
  const kibana = program.command('kibana').description('Kibana: dashboard, charts and data views.');
  withConfig(kibana.command('import [files...]'))
    .description(
      'Import dashboard, charts and data views; repeating it changes nothing. Files: .ndjson (default: the shipped ones).',
    )
    .option('--url <address>', 'address of Kibana (default: kibana.url, KIBANA_URL)')
    .option('--api-key <key>', 'API key, base64 form; others on this host can see it here, so better KIBANA_API_KEY')
    .option('--space <id>', 'space to import into (default: kibana.space, else that of the address)')
    .option('--dry-run', 'check and list the objects; send nothing', false)
    .option('--json', 'one JSON object', false)
    .addHelpText(
      'after',
      `
Examples:
  logpipe kibana import --dry-run
  logpipe kibana import --url http://localhost:5601
  KIBANA_API_KEY_FILE=/etc/logpipe/kibana.key logpipe kibana import --url https://kibana.example.org --space ops
  KIBANA_USERNAME=elastic KIBANA_PASSWORD_FILE=/etc/logpipe/kibana.pw logpipe kibana import --json

The log-in comes from KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD, or their _FILE forms.
Exit status: 0 all objects are there, 1 some or all were not taken, 2 wrong command line or configuration.`,
    )
    .action(async (files: string[], options) => {
      const { kibanaImport } = await import('./kibana.ts');
      return finish(kibanaImport(files, load(options).config, options, io));
    });
}
