// Secrets in commands and statements, which show by their place: `curl -u user:x`, `mysql -px`, `INSERT … VALUES ('x')`.
// In: a text. Out: the text with them masked. Guarantee: each line and each list of values is read once.
import { quoteAt, quotedEnd, skipSpaces } from './notation.ts';
import { MASK } from './secret-forms.ts';
import { saysNothing } from './secret-text.ts';

/** Where the parts of a statement or command stand that are read as a whole: these marks lead there. */
export const COMMAND_ANCHORS = [' -u', ' -p', ' -a ', ' -w ', ' --user'];

const COMMAND =
  /\b(?:curl|wget|http|https|mysql\w{0,12}|mariadb\w{0,12}|sshpass|redis-cli|mongo\w{0,10}|ldap\w{2,10}|docker|podman|htpasswd|psql|kinit|smbclient|rabbitmqadmin|mosquitto_(?:pub|sub)|sqlcmd|sqlplus|svn|zip|7z|keytool|cqlsh|influx|etcdctl)\b/;

/** `curl -u user:password`, `mysql -ppassword`, `sshpass -p x`: the arguments of known commands, line by line. */
export function cutCommands(text: string): string {
  return text
    .split('\n')
    .map((line) => {
      const command = COMMAND.exec(line);
      if (command === null) return line;
      const head = line.slice(0, command.index);
      return head + cutArguments(line.slice(command.index), command[0]);
    })
    .join('\n');
}

function cutArguments(line: string, command: string): string {
  const users = /^(?:curl|http|https|wget)$/.test(command);
  const joinedPassword = /^(?:mysql|mariadb|sshpass|7z|mongo|cqlsh)/.test(command);
  const flags = users
    ? ''
    : command === 'redis-cli'
      ? '-a'
      : command.startsWith('ldap')
        ? '-w'
        : command === 'sqlcmd' || command === 'mosquitto_pub' || command === 'mosquitto_sub'
          ? '-P'
          : '-p';
  let flag = '';
  return line.replace(/\S+/g, (word) => {
    const before = flag;
    flag = word;
    if (word.includes(MASK)) return word;
    if (users) {
      const joined = /^-u(?=[^\s:]{1,64}:)/.exec(word)?.[0] ?? /^--user=/.exec(word)?.[0];
      if (
        joined === undefined &&
        before !== '-u' &&
        before !== '--user' &&
        before !== '--proxy-user' &&
        before !== '-U'
      )
        return word;
      const colon = word.indexOf(':', joined?.length ?? 0);
      return colon < 0 || colon === word.length - 1
        ? word
        : `${word.slice(0, colon + 1)}${MASK}${/["']$/.exec(word)?.[0] ?? ''}`;
    }
    if (
      flags !== '' &&
      before === flags &&
      !word.startsWith('-') &&
      (joinedPassword ? /^(?:sshpass|mongo|cqlsh)/.test(command) : !/^\d{1,5}(?::|$)/.test(word)) &&
      !(command === 'docker' || command === 'podman' ? /[:/]/.test(word) : false)
    ) {
      return MASK;
    }
    if (joinedPassword && /^-p[^\s=]/.test(word) && !/^-p(?:ort|rotocol|ath)\b/.test(word)) return `-p${MASK}`;
    return word;
  });
}

const INSERT =
  /\b(?:insert|replace)\s{1,8}into\s{1,8}[\w."`[\]]{1,128}\s{0,8}\(([^()]{1,2000})\)\s{0,8}values\s{0,8}/gi;

/** The values of secret columns in `INSERT INTO t (name, password) VALUES ('a', 'x'), …`. */
export function cutInserts(text: string, isSecret: (column: string) => boolean): string {
  let out = '';
  let done = 0;
  for (const found of text.matchAll(INSERT)) {
    if (found.index < done) continue;
    const secret = found[1]!.split(',').map((column) => isSecret(column));
    if (!secret.includes(true)) continue;
    let i = found.index + found[0].length;
    while (text[i] === '(') {
      i += 1;
      for (let column = 0; i < text.length; column++) {
        i = skipSpaces(text, i, true);
        const quote = quoteAt(text, i);
        const from = quote?.end ?? i;
        let to = from;
        if (quote !== undefined) to = quotedEnd(text, from, quote);
        else while (to < text.length && !/[,)\s]/.test(text[to]!)) to += 1;
        const value = text.slice(from, Math.min(to, from + 64));
        if (secret[column] === true && to > from && !saysNothing(value, true) && !/^[$:?]\w*$/.test(value)) {
          out += text.slice(done, from) + MASK;
          done = to;
        }
        i = quote === undefined ? to : to + quote.slashes + quote.close.length;
        i = skipSpaces(text, i, true);
        if (text[i] !== ',') break;
        i += 1;
      }
      if (text[i] === ')') i += 1;
      const next = /^\s{0,8},\s{0,8}(?=\()/.exec(text.slice(i, i + 20));
      if (next === null) break;
      i += next[0].length;
    }
  }
  return out + text.slice(done);
}
