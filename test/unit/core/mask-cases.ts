// Lines with secrets and lines without, many of each kind. The secrets are made up at run time, letter by letter where a
// scanner would know their head.
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
let seed = 20_261_128;

function random(below: number): number {
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
  return Math.floor((seed / 2_147_483_648) * below);
}

const pick = (letters: string, length: number) =>
  Array.from({ length }, () => letters[random(letters.length)]).join('');
/** Always with a capital, a small letter and a digit among the first four. */
export const drawn = (length: number) => `Zx${random(10)}${pick(ALPHABET, length - 3)}`;
export const hex = (length: number) => `a${random(10)}${pick('0123456789abcdef', length - 2)}`;
export const digits = (length: number) => `9${pick('0123456789', length - 1)}`;
const upper = (length: number) => pick('ABCDEFGHJKLMNPQRSTUVWXYZ23456789', length);
const head = (...parts: string[]) => parts.join('');

export interface SecretCase {
  readonly family: string;
  readonly what: string;
  readonly line: string | Buffer;
  readonly secrets: readonly string[];
}

const TIME = '2026-11-28T12:00:00.000Z';
const record = (fields: object) => JSON.stringify({ timestamp: TIME, level: 'error', message: 'x', ...fields });

export const SECRETS: SecretCase[] = [];
function add(family: string, what: string, line: string | Buffer, ...secrets: string[]) {
  SECRETS.push({ family, what, line, secrets });
}
function text(family: string, secret: string, message: string) {
  add(family, message.replace(secret, '…').slice(0, 70), record({ message }), secret);
}
function under(family: string, key: string, secret: string, value: unknown = secret) {
  add(family, key, record({ [key]: value }), secret);
}

// ---- keys ----
for (const key of [
  ...[
    'password',
    'PASSWORD',
    'passwd',
    'passphrase',
    'pwd',
    'secret',
    'token',
    'apiKey',
    'API_KEY',
    'api-key',
    'accessToken',
    'refresh_token',
    'id_token',
  ],
  ...[
    'clientSecret',
    'client_secret',
    'privateKey',
    'secretKey',
    'authorization',
    'Cookie',
    'set-cookie',
    'credential',
    'creds',
    'csrfToken',
    'xsrf-token',
  ],
  ...[
    'dbPassword',
    'DB_PASS',
    'smtpPass',
    'redisPassword',
    'userPass',
    'adminPwd',
    'rootpw',
    'ldapBindPassword',
    'newPassword',
    'old_password',
    'currentPassword',
  ],
  ...[
    'password2',
    'passwordRepeat',
    'password_confirmation',
    'confirmPassword',
    'passwordHash',
    'passwordEncrypted',
    'hashedPassword',
    'plainPassword',
  ],
  ...[
    'signingKey',
    'signing_key',
    'encryption_key',
    'ENCRYPTION_KEY',
    'authKey',
    'accountKey',
    'masterKey',
    'sharedKey',
    'storageKey',
    'sessionKey',
    'hmacKey',
  ],
  ...[
    'integrationKey',
    'serviceKey',
    'deployKey',
    'licenseKey',
    'subscriptionKey',
    'ocp-apim-subscription-key',
    'consumerSecret',
    'appSecret',
    'app_key',
  ],
  ...[
    'sessionId',
    'session_id',
    'session',
    'SESSION_TOKEN',
    'connect.sid',
    'PHPSESSID',
    'JSESSIONID',
    'ASP.NET_SessionId',
    'jwt',
    'jwtToken',
    'bearerToken',
  ],
  ...[
    'webhookSecret',
    'signingSecret',
    'slackSigningSecret',
    'botToken',
    'deviceToken',
    'resetToken',
    'magicLinkToken',
    'inviteToken',
    'authToken',
    'X-Auth-Token',
  ],
  ...[
    'secretAnswer',
    'security_answer',
    'mnemonic',
    'seedPhrase',
    'recovery_phrase',
    'privateKeyPem',
    'private_key',
    'sshPrivateKey',
    'awsSecretAccessKey',
  ],
  ...[
    'twilioAuthToken',
    'STRIPE_SECRET_KEY',
    'openaiApiKey',
    'OPENAI_KEY',
    'datadogApiKey',
    'dd-application-key',
    'sipPassword',
    'sip_secret',
    'wifiPassword',
    'psk',
  ],
  ...[
    'dbpassword',
    'userpassword',
    'mysecret',
    'accesstoken',
    'clientsecret',
    'authtoken',
    'sessionid',
    'dbpass',
    'smtppass',
    'storepass',
    'keypass',
  ],
  ...[
    'Pass Word',
    'pass.word',
    '$password',
    '_password',
    'pass-word',
    'Api Key',
    'api.key',
    'ACCESS KEY',
    'x.api.key',
    'Auth_Token',
    'user.password',
    'db.pass',
  ],
  ...[
    'Private Key',
    'Client Secret',
    '@password',
    'password:',
    'password*',
    '#token',
    'tokenValue',
    'secret_value',
    'cookieHeader',
    'authorizationHeader',
  ],
]) {
  under('key', key, drawn(24));
}
for (const key of [
  'pin',
  'PIN',
  'pinCode',
  'pin_code',
  'callerPin',
  'otp',
  'otpCode',
  '_otp',
  'cvv',
  'CVV2',
  'cvc',
  'card_cvc',
  'mfaCode',
  'mfa_code',
  '2faCode',
  'securityCode',
  'verificationCode',
  'smsCode',
  'backupCodes',
  'recovery_codes',
  'passcode',
  'cardNumber',
  'card_no',
  'ccNumber',
  'creditCard',
  'debitCardNumber',
  'ssn',
  'socialSecurityNumber',
  'iban',
  'loginCode',
  'one_time_password',
  'accessCode',
  'voicemailPin',
]) {
  under('code key', key, digits(8));
}
for (const key of ['pin', 'cvv', 'password', 'otp', 'passcode']) under('number key', key, '90417', 90_417);

// ---- groups and pairs ----
{
  const s = () => drawn(16);
  const each = (what: string, make: (secret: string) => object) => {
    const secret = s();
    add('group', what, record(make(secret)), secret);
  };
  each('password: [x]', (x) => ({ password: [x] }));
  each('tokens: [x]', (x) => ({ tokens: ['a', x] }));
  each('tokens: {refresh: x}', (x) => ({ tokens: { refresh: x, expiresIn: 5 } }));
  each('secrets: {db: {main: x}}', (x) => ({ secrets: { db: { main: [x] } } }));
  each('credentials: {user, value}', (x) => ({ credentials: { user: 'a', value: x } }));
  each('auth: {pass}', (x) => ({ auth: { username: 'a', pass: x } }));
  each('api: {key}', (x) => ({ api: { key: x } }));
  each('session: {id}', (x) => ({ session: { id: x, count: 2 } }));
  each('client: {secret}', (x) => ({ client: { id: 'a', secret: x } }));
  each('{key,value}', (x) => ({ list: [{ key: 'apiKey', value: x }] }));
  each('{name,value}', (x) => ({ headers: [{ name: 'Authorization', value: `Custom ${x}` }] }));
  each('{field,value}', (x) => ({ errors: [{ field: 'password', value: x }] }));
  each('{header,value}', (x) => ({ h: { header: 'X-Auth-Token', value: x } }));
  each('{label,value}', (x) => ({ h: { label: 'Access Token', value: x } }));
  each('JSON patch', (x) => ({ patch: [{ op: 'add', path: '/user/apiKey', value: x }] }));
  each('deep diff', (x) => ({ diff: [{ kind: 'E', path: ['user', 'password'], lhs: 'old', rhs: x }] }));
  each('diff from/to', (x) => ({ changes: [{ field: 'token', from: x, to: 'b' }] }));
  each('argv', (x) => ({ argv: ['node', 'x.js', '--token', x] }));
  each('argv =', (x) => ({ argv: ['node', 'x.js', `--password=${x}`] }));
  each('argv -p', (x) => ({ argv: ['--db-password', x, '--verbose'] }));
  each('rawHeaders', (x) => ({ rawHeaders: ['Host', 'h', 'X-Api-Key', x] }));
  each('entries', (x) => ({
    entries: [
      ['host', 'h'],
      ['x-auth-token', x],
    ],
  }));
  each('key is the secret', (x) => ({ [`password=${x}`]: 1 }));
  each('map keyed by tokens', (x) => ({ tokens: { [`${x}a1B2c3`]: true } }));
  each('env', (x) => ({ env: { PATH: '/bin', DB_PASSWORD: x } }));
  each('url object', (x) => ({ url: { href: `https://h/a?token=${x}`, searchParams: { token: x } } }));
  const pin = digits(6);
  add('group', 'card: {code}', record({ card: { code: pin, last4: '1111' } }), pin);
  const cvc = digits(4);
  add(
    'group',
    'card: {cvc, number}',
    record({ card: { number: '4111 1111 1111 1111', cvc } }),
    cvc,
    '4111 1111 1111 1111',
  );
}

// ---- headers ----
for (const scheme of [
  'Bearer',
  'bearer',
  'BEARER',
  'Token',
  'token',
  'ApiKey',
  'Api-Key',
  'Basic',
  'Negotiate',
  'NTLM',
  'GenieKey',
  'Bot',
  'Key',
  'JWT',
  'SSWS',
]) {
  const secret = drawn(32);
  text('header', secret, `upstream said no to Authorization: ${scheme} ${secret}`);
  text('header', secret, `authorization=${scheme} ${secret}`);
  add(
    'header',
    `headers.authorization ${scheme}`,
    record({ headers: { authorization: `${scheme} ${secret}` } }),
    secret,
  );
}
{
  const sent = (what: (x: string) => string) => {
    const secret = drawn(24);
    text('header', secret, what(secret));
  };
  sent((x) => `got ${'Bearer'} ${x} from it`);
  sent((x) => `curl -H "Authorization: Bearer ${x}" https://h`);
  sent((x) => `curl -H 'X-Api-Key: ${x}' https://h`);
  sent((x) => `curl --header "x-auth-token: ${x}" https://h`);
  sent((x) => `curl -u bob:${x} https://h`);
  sent((x) => `curl --user bob:${x} https://h`);
  sent((x) => `curl -sS -ubob:${x} https://h`);
  sent((x) => `Authorization: Digest username="bob", realm="r", nonce="n", response="${x}"`);
  sent(
    (x) => `Authorization: AWS4-HMAC-SHA256 Credential=a/2026/eu/s3/aws4_request, SignedHeaders=host, Signature=${x}`,
  );
  sent((x) => `Authorization: OAuth oauth_consumer_key="a", oauth_token="b", oauth_signature="${x}"`);
  sent((x) => `Proxy-Authorization: Basic ${x}`);
  sent((x) => `> X-Api-Key: ${x}\r\n> Accept: */*`);
  sent((x) => `POST /v1 HTTP/1.1\nHost: h\nX-Vault-Token: ${x}\nAccept: a`);
  sent((x) => `headers {"x-api-key":"${x}","accept":"a"}`);
  sent((x) => `{ 'x-api-key': '${x}' }`);
  sent((x) => `X-Amz-Security-Token: ${x}`);
  sent((x) => `Cookie: theme=dark; lang=en; sid=${x}`);
  sent((x) => `cookie: a="b"; s="${x}"; c=d`);
  sent((x) => `Set-Cookie: session=${x}; Path=/; HttpOnly`);
  sent((x) => `set-cookie: Path=/; auth=${x}`);
  sent((x) => `sess PHPSESSID=${x}; gone`);
  sent((x) => `connect.sid=s%3A${x}`);
}

// ---- connection strings ----
for (const make of [
  (x: string) => `postgres://app:${x}@db:5432/calls`,
  (x: string) => `postgresql://app:a/${x}@db/calls`,
  (x: string) => `mysql://root:a@${x}@db/calls`,
  (x: string) => `mongodb+srv://app:${x}@c0.example.net/calls?retryWrites=true`,
  (x: string) => `mongodb://app:${x}@h1:27017,h2:27017/calls?replicaSet=r`,
  (x: string) => `redis://:${x}@cache:6379/0`,
  (x: string) => `rediss://default:${x}@cache:6380`,
  (x: string) => `amqp://guest:${x}@mq:5672/vhost`,
  (x: string) => `amqps://a:b#${x}@mq`,
  (x: string) => `smtp://user:${x}@mail:587`,
  (x: string) => `ftp://user:${x}@files/x`,
  (x: string) => `ldap://cn=admin:${x}@dir:389`,
  (x: string) => `https://bob:${x}@api.example.org/v1`,
  (x: string) => `https://bob:a%40${x}@api.example.org/v1`,
  (x: string) => `https:\\/\\/bob:${x}@api.example.org\\/v1`,
  (x: string) => `https://${x}${x}@git.example.org/a.git`,
  (x: string) => `https://oauth2:${x}@git.example.org/a.git`,
  (x: string) => `https://${hex(32)}:${x}@o1.ingest.example.org/1`,
  (x: string) => `kafka://u:${x}?a@broker:9092`,
  (x: string) => `nats://:${x}@n:4222`,
  (x: string) => `jdbc:postgresql://db/calls?user=app&password=${x}`,
  (x: string) => `jdbc:oracle:thin:app; Password=${x}`,
  (x: string) => `Server=db;Database=c;User Id=app;Password=${x};Encrypt=true`,
  (x: string) => `Driver={ODBC};Uid=a;Pwd=${x};`,
  (x: string) => `Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=${x}=`,
  (x: string) => `DefaultEndpointsProtocol=https;AccountName=x;AccountKey=${x}==;EndpointSuffix=e`,
  (x: string) => `app:${x}@tcp(db:3306)/calls`,
  (x: string) => `host=db port=5432 user=app password=${x} dbname=c`,
  (x: string) => `postgres%3A%2F%2Fapp%3A${x}%40db%2Fcalls`,
]) {
  const secret = drawn(12);
  text('connection', secret, `cannot reach ${make(secret)} today`);
  add('connection', `under url: ${make('…')}`, record({ url: make(secret) }), secret);
}

// ---- tokens by form ----
for (const make of [
  ...['ghp', 'gho', 'ghu', 'ghs', 'ghr'].map((name) => () => head(name, '_', drawn(36))),
  () => head('github', '_pat_', drawn(22), '_', drawn(40)),
  ...['glpat', 'gldt', 'glrt', 'glcbt', 'glptt'].map((name) => () => head(name, '-', drawn(20))),
  ...['b', 'p', 'a', 'r', 's', 'e'].map(
    (kind) => () => head('xox', kind, '-', digits(11), '-', digits(11), '-', drawn(24)),
  ),
  () => head('xapp', '-1-', upper(11), '-', digits(13), '-', hex(64)),
  () => head('xoxe', '.xoxp-1-', drawn(40)),
  ...['sk_live', 'sk_test', 'rk_live', 'rk_test'].map((name) => () => head(name, '_', drawn(24))),
  () => head('whsec', '_', drawn(32)),
  () => head('SK', hex(32)),
  () => head('SG', '.', drawn(22), '.', drawn(43)),
  () => head('key', '-', hex(32)),
  () => head('sk', '-', drawn(48)),
  () => head('sk', '-proj-', drawn(24), '_', drawn(20)),
  () => head('sk', '-ant-api03-', drawn(60), '-AA'),
  () => head('npm', '_', drawn(36)),
  () => head('pypi', '-AgEIcHlwaS5vcmc', drawn(60)),
  () => head('hf', '_', drawn(34)),
  ...['shpat', 'shpca', 'shppa', 'shpss'].map((name) => () => head(name, '_', hex(32))),
  ...['dop', 'doo', 'dor'].map((name) => () => head(name, '_v1_', hex(64))),
  () => head('dp', '.pt.', drawn(43)),
  () => head('dp', '.st.prod.', drawn(43)),
  () => head('AI', 'za', drawn(35)),
  () => head('ya', '29.', drawn(60)),
  () => head('GOC', 'SPX-', drawn(28)),
  () => head('AK', 'IA', upper(16)),
  () => head('AS', 'IA', upper(16)),
  () => head(digits(9), ':AA', drawn(33)),
  () => head('MT', drawn(22), '.', drawn(6), '.', drawn(30)),
  () => head('dapi', hex(32)),
  () => head('NRAK', '-', upper(27)),
  () => head('lin', '_api_', drawn(40)),
  () => head('secret', '_', drawn(43)),
  () => head('ntn', '_', drawn(43)),
  () => head('PMAK', '-', hex(24), '-', hex(34)),
  () => head('sq0', 'csp-', drawn(43)),
  () => head('ATATT3', drawn(60), '=', upper(8)),
  () => head('pat', drawn(14), '.', hex(64)),
  () => head('hvs', '.', drawn(24)),
  () => head('HRKU', '-', drawn(30)),
  () => head('sbp', '_', hex(40)),
  () => head('pscale', '_pw_', drawn(43)),
  () => head('glc', '_', drawn(60)),
  () => head('glsa', '_', drawn(32), '_', hex(8)),
  () => head('sntrys', '_', drawn(60)),
  () => head(drawn(14), '.atlasv1.', drawn(60)),
  () => head('AGE', '-SECRET-KEY-1', upper(58)),
  () => head('dckr', '_pat_', drawn(27)),
  () => head('xkeysib', '-', hex(64), '-', drawn(16)),
  () => head('gsk', '_', drawn(52)),
  () => head('r8', '_', drawn(37)),
  () => head(hex(32), '-us', '12'),
  () => head('tskey', '-auth-', drawn(12), '-', drawn(30)),
  () => head('https://hooks.slack', '.com/services/', upper(9), '/', upper(9), '/', drawn(24)),
  () => head('https://discord.com/api', '/webhooks/', digits(18), '/', drawn(60)),
  () => head('https://x.webhook.office', '.com/webhookb2/', hex(36)),
  () => head('eyJ', drawn(20), '.eyJ', drawn(30), '.', drawn(43)),
]) {
  for (const wrap of [
    (x: string) => `calling with ${x} failed`,
    (x: string) => `(${x})`,
    (x: string) => `a%3D${x}&b`,
    (x: string) => `k="${x}"`,
    (x: string) => `line\\n${x}\\n`,
  ]) {
    const secret = make();
    text('token', secret, wrap(secret));
    add('token', `tenantId ${secret.slice(0, 5)}`, record({ tenantId: secret }), secret);
  }
}

// ---- keys in PEM ----
for (const name of [
  'RSA PRIVATE KEY',
  'EC PRIVATE KEY',
  'PRIVATE KEY',
  'ENCRYPTED PRIVATE KEY',
  'OPENSSH PRIVATE KEY',
  'PGP PRIVATE KEY BLOCK',
  'DSA PRIVATE KEY',
]) {
  const body = drawn(64);
  const pem = (line: string) =>
    head('-----BE', `GIN ${name}-----`, line, body, line, drawn(64), line, '-----EN', `D ${name}-----`);
  text('pem', body, `cannot load ${pem('\n')} today`);
  text('pem', body, `cannot load ${pem('\\n')} today`);
  text('pem', body, `cannot load ${pem('\\\\n')}`);
  text('pem', body, `cut short: ${pem('\n').slice(0, 120)}`);
  add('pem', `key ${name}`, record({ key: pem('\n') }), body);
  add('pem', `nested ${name}`, record({ config: JSON.stringify({ cert: { k: pem('\n') } }) }), body);
  const base64 = Buffer.from(pem('\n')).toString('base64');
  add('pem', `base64 ${name}`, record({ kubeconfig: base64 }), base64.slice(30, 60));
}

// ---- queries and URL encoding ----
for (const name of [
  'token',
  'access_token',
  'api_key',
  'apikey',
  'key',
  'sig',
  'signature',
  'X-Amz-Signature',
  'X-Amz-Security-Token',
  'code',
  'client_secret',
  'refresh_token',
  'password',
  'pwd',
  'auth',
  'session',
  'sid',
  'jwt',
  'id_token',
  'secret',
  'assertion',
  'ticket',
  'X-Goog-Signature',
  'hmac',
  'oauth_token',
  'SAMLResponse',
  'private_token',
  'sv=1&sig',
]) {
  const secret = drawn(40);
  text('query', secret, `GET /cb?x=1&${name}=${secret}&y=2 500`);
  text('query', secret, `GET /cb?${name}=${secret} HTTP/1.1`);
  add(
    'query',
    `url ${name}`,
    record({ http: { method: 'GET', route: `/cb?${name}=${secret}`, status: 500, durationMs: 5 } }),
    secret,
  );
  text('url-encoded', secret, `GET /r?u=https%3A%2F%2Fh%2F%3F${name}%3D${secret}%26a%3Db`);
}
{
  const x = drawn(12);
  text('url-encoded', x, `body=%7B%22user%22%3A%22a%22%2C%22password%22%3A%22${x}%22%7D`);
  text('url-encoded', x, `body=%257B%2522secret%2522%253A%2522${x}%2522%257D`);
  text('url-encoded', x, `q=password%3D${x}`);
}

// ---- notations in text ----
for (const word of ['password', 'secret', 'apiKey', 'access_token', 'clientSecret', 'sip_password']) {
  for (const make of [
    (k: string, x: string) => `body was {"user":"a","${k}":"${x}"}`,
    (k: string, x: string) => `body was {"user":"a","${k}" : "a\\"${x}"}`,
    (k: string, x: string) => `body was {"user":"a","${k}":"a\\\\${x}\\\\"}`,
    (k: string, x: string) => `{ user: 'a', ${k}: '${x}', b: 1 }`,
    (k: string, x: string) => `{ ${k}: "it's${x}" }`,
    (k: string, x: string) => `{ ${k}: 'it\\'s${x}' }`,
    (k: string, x: string) => `{:user=>"a", :${k}=>"${x}"}`,
    (k: string, x: string) => `user: a\n${k}: ${x}\nhost: h`,
    (k: string, x: string) => `[db]\nuser = a\n${k} = ${x}\n`,
    (k: string, x: string) => `export ${k}="${x}"`,
    (k: string, x: string) => `level=info ${k}=${x} user=a`,
    (k: string, x: string) => `user=a&${k}=${x}&b=1`,
    (k: string, x: string) => `<login><${k}>${x}</${k}></login>`,
    (k: string, x: string) => `<ns:${k} type="a">${x}</ns:${k}>`,
    (k: string, x: string) => `<${k}><![CDATA[${x}]]></${k}>`,
    (k: string, x: string) => `<login user="a" ${k}="${x}"/>`,
    (k: string, x: string) => `<login ${k}='${x}'>`,
    (k: string, x: string) => `&quot;${k}&quot;:&quot;${x}&quot;`,
    (k: string, x: string) => `exec: run --user a --${k} ${x} -v`,
    (k: string, x: string) => `exec: run --${k}=${x} -v`,
    (k: string, x: string) => `exec: run --${k} '${x}' -v`,
    (k: string, x: string) => `args ["--${k}","${x}"]`,
    (k: string, x: string) => `[{"name":"${k}","value":"${x}"}]`,
    (k: string, x: string) => `${k}=ab,${x}`,
    (k: string, x: string) => `${k}=ab&${x} z`,
    (k: string, x: string) => `${k}: ab;${x}`,
    (k: string, x: string) => `${k}: ab)${x}`,
    (k: string, x: string) => `${k}=$${x}`,
    (k: string, x: string) => `${k}=[${x}]`,
    (k: string, x: string) => `${k}: <${x}>`,
    (k: string, x: string) => `${k}={${x}}`,
    (k: string, x: string) => `${k}: "{{${x}}}"`,
    (k: string, x: string) => `${k}:=${x}`,
    (k: string, x: string) => `${k} -> ${x}`,
    (k: string, x: string) => `${k} => '${x}'`,
    (k: string, x: string) => `(${k}: ${x})`,
    (k: string, x: string) => `{"${k}":["${x}"]}`,
    (k: string, x: string) => `{"${k}":{"a":{"b":"${x}"}}}`,
    (k: string, x: string) => `user[${k}]=${x}`,
    (k: string, x: string) => `UPDATE users SET ${k} = '${x}' WHERE id = 1`,
    (k: string, x: string) => `INSERT INTO users (name, ${k}) VALUES ('a', '${x}')`,
    (k: string, x: string) => `insert into "users" ("${k}", name) values ('${x}', 'b'), ('${x}', 'c')`,
    (k: string, x: string) => `{"${k}":"${x}`,
    (k: string, x: string) => `${k}="${x}`,
    (k: string, x: string) => `{\\"${k}\\":\\"${x}\\"}`,
    (k: string, x: string) => `{\\\\\\"${k}\\\\\\":\\\\\\"${x}\\\\\\"}`,
    (k: string, x: string) => `{"\\u0070assword":"${x}", "${k}": 1}`,
  ]) {
    const secret = drawn(14);
    text('notation', secret, make(word, secret));
  }
  const secret = drawn(14);
  let nested = JSON.stringify({ [word]: secret });
  for (let level = 1; level <= 5; level++) {
    add('notation', `${level} levels of JSON, ${word}`, record({ body: nested }), secret);
    add('notation', `${level} levels of JSON in a text, ${word}`, record({ body: `got ${nested} here` }), secret);
    nested = JSON.stringify({ inner: nested });
  }
}
for (const make of [
  (x: string) => `CREATE USER a IDENTIFIED BY '${x}'`,
  (x: string) => `ALTER USER a WITH PASSWORD '${x}'`,
  (x: string) => `SET PASSWORD FOR a = '${x}'`,
  (x: string) => `exec: mysql -ua -p${x} -h db`,
  (x: string) => `mysqldump --user=a -p${x} calls`,
  (x: string) => `sshpass -p ${x} ssh h`,
  (x: string) => `redis-cli -h c -a ${x} ping`,
  (x: string) => `PGPASSWORD=${x} psql -h db`,
  (x: string) => `docker login -u a -p ${x} registry.example.org`,
]) {
  const secret = drawn(12);
  text('notation', secret, make(secret));
}
add('notation', 'a number in JSON in a text', record({ message: 'body {"password":12345080157}' }), '12345080157');

// ---- prose ----
for (const make of [
  (x: string) => `login failed with password ${x}`,
  (x: string) => `wrong password ${x} for bob`,
  (x: string) => `Password for bob: ${x}`,
  (x: string) => `password of user bob: ${x}`,
  (x: string) => `the password is ${x}`,
  (x: string) => `password '${x}' refused`,
  (x: string) => `passwd ${x}`,
]) {
  const secret = drawn(12);
  text('prose', secret, make(secret));
}
for (const make of [
  (x: string) => `invalid token ${x}`,
  (x: string) => `invalid token: ${x}`,
  (x: string) => `using api key ${x} for it`,
  (x: string) => `API key: ${x}`,
  (x: string) => `new secret ${x} stored`,
  (x: string) => `access token is ${x}`,
  (x: string) => `session token "${x}" refused`,
  (x: string) => `Unexpected token ${x}`,
]) {
  const secret = drawn(32);
  text('prose', secret, make(secret));
}
for (const make of [
  (x: string) => `SMS: Your verification code is ${x}`,
  (x: string) => `Your code is ${x}`,
  (x: string) => `${x} is your login code`,
  (x: string) => `Use ${x} as your one-time password`,
  (x: string) => `OTP: ${x}`,
  (x: string) => `otp ${x} sent`,
  (x: string) => `pin=${x}`,
  (x: string) => `PIN is ${x}`,
  (x: string) => `caller entered pin ${x}`,
  (x: string) => `security code: ${x}`,
  (x: string) => `verification code ${x}`,
  (x: string) => `cvv: ${x} wrong`,
  (x: string) => `2FA code ${x}`,
]) {
  const secret = digits(6);
  text('prose', secret, make(secret));
}
text('prose', 'crane able lamp', 'seed phrase: crane able lamp ocean tiger upon');

// ---- cards ----
for (const [card, ...rest] of [
  ['4111111111111111'],
  ['4012 8888 8888 1881'],
  ['4111-1111-1111-1111'],
  ['5555555555554444'],
  ['2223003122003222'],
  ['378282246310005'],
  ['3782 822463 10005'],
  ['6011111111111117'],
  ['3530111333300000'],
  ['30569309025904'],
  ['6200000000000005'],
]) {
  expectNone(rest);
  text('card', card!, `charge of ${card} refused`);
  text('card', card!, `card ${card}, declined`);
  text('card', card!, `{"pan":"${card}"}`);
  add('card', `leaf ${card}`, record({ note: card }), card!);
}
text('card', '924-45-6789', 'customer SSN 924-45-6789');
text('card', '924-45-6789', 'ssn: 924-45-6789');
text('card', '924-45-6789', 'social security number 924-45-6789');
text('card', '2222 2222 2220', 'cardNumber=4222 2222 2222 2220');

function expectNone(rest: readonly unknown[]) {
  if (rest.length > 0) throw new Error('one card at a time');
}

// ---- records that are no clean JSON ----
{
  const raw = (what: string, make: (x: string) => string | Buffer) => {
    const secret = drawn(20);
    add('raw', what, make(secret), secret);
  };
  const open = `{"timestamp":"${TIME}","level":"error","message":"x",`;
  raw('escaped key', (x) => `${open}"p\\u0061ssword":"${x}"}`);
  raw('escaped key, nested', (x) => `${open}"a":{"to\\u006Ben":"${x}"}}`);
  raw('escaped head of a value', (x) => `${open}"a":"\\u0065yJhbGciOiJIUzI1NiJ9.eyJzdWIi.${x}"}`);
  raw('escaped slash', (x) => `${open}"a":"https:\\/\\/u:${x}@h\\/"}`);
  raw('truncated', (x) => `${open}"password":"${x}","tail":"abc`);
  raw('truncated in the secret', (x) => `${open}"password":"${x}`);
  raw('truncated, escaped key', (x) => `${open}"p\\u0061ssword":"${x}","tail":"abc`);
  raw('key given twice', (x) => `${open}"password":"${x}","password":"b"}`);
  raw('key given twice, nested', (x) => `${open}"a":{"token":"${x}","token":null}}`);
  raw('message given twice', (x) => `${open}"message":"pwd=${x}","message":"b"}`);
  raw('an array', (x) => `["x",{"password":"${x}"}]`);
  raw('a text', (x) => JSON.stringify(`password=${x}`));
  raw('plain text', (x) => `2026-11-28 12:00:00 ERROR password=${x} wrong`);
  raw('invalid UTF-8', (x) =>
    Buffer.concat([Buffer.from(`${open}"a":"`), Buffer.from([0xff, 0xfe]), Buffer.from(`","password":"${x}"}`)]),
  );
  raw('UTF-16', (x) => Buffer.from(`${open}"password":"${x}"}`, 'utf16le'));
  raw('UTF-16 with its mark', (x) => Buffer.from(`\uFEFF${open}"password":"${x}"}`, 'utf16le'));
  raw('byte order mark', (x) => `\uFEFF${open}"password":"${x}"}`);
  raw('two documents', (x) => `${open}"a":1}{"password":"${x}"}`);
  raw('a line break inside', (x) => `${open}\n"password":\n"${x}"}`);
  raw('tags', (x) => `${open}"tags":["password=${x}"]}`);
  raw('version', (x) => `${open}"version":"1 token=${x}"}`);
}

// ---- no secrets ----
export const INNOCENT: readonly object[] = [
  ...[
    ...[
      'token count 5',
      'token_count: 5',
      'token limit: 4096',
      'tokenExpiresAt=2026-11-28',
      'Unexpected token: foo in JSON',
      'Unexpected token < in JSON at position 0',
    ],
    ...[
      'Unexpected token \'}\', "{a" is not valid JSON',
      'Unexpected token o in JSON',
      'password reset requested for user 17',
      'password_reset: ok',
      'passwordless: enabled',
    ],
    ...[
      'Password changed successfully',
      'password must be at least 8 characters',
      'password: required',
      'token: null',
      'token: undefined',
      'token expired',
      'invalid token',
      'invalid token: expired',
    ],
    ...[
      'secretary: Jane',
      'author: Jane',
      'authority: example',
      'authorizationStatus: denied',
      'cookieCount=3',
      'compass: north',
      'bypass=true',
      'Basic authentication required',
      'Bearer token required',
    ],
    ...[
      'spinning: yes',
      'pinned: 5',
      'pinging 10.0.0.1',
      'shipping: 4',
      'risk-assessment-of-the-new-customer failed',
      'locale sk_SK_something_really_long',
      'task-0123456789abcdef done',
      'sha SK8er',
    ],
    ...[
      'AKIA is a prefix',
      'see http://example.org:8080?q=1&mail=bob@example.org',
      'GET https://packages.example.org/@types/node',
      'tcp://h:1 retry@3',
      'mailto:bob@example.org',
      'git@github.com:org/repo.git',
    ],
    ...[
      'ssh://git@github.com/org/repo',
      'https://example.org/a:b@c',
      'credentialsProvider: default',
      'classname: Foo',
      'pvcvc: 5',
      'secret santa: tomorrow',
      'tokenize=fast',
      'apiKeyId=7',
      'accessKeyName: ci',
    ],
    ...[
      'allowed headers: x-csrf-token, accept',
      'grant_type=password',
      'at Object.token (/app/node_modules/token/index.js:10:5)',
      'at x (/app/secrets.ts:12:5)',
      'at Lexer (/app/token.js:12:7)',
    ],
    ...[
      'heyJude: playing',
      'session started',
      'session closed: timeout',
      'session 12 of 20',
      'cookies enabled',
      'cookie banner: accepted',
      'pass 3 of 5',
      'tests passed: 12',
      '12 passed, 3 failed',
      'first pass done',
    ],
    ...[
      'card declined',
      'card: visa',
      'pin map: ok',
      'key: user:42:profile',
      'cache key user:42 missing',
      'primary key violation: duplicate key value',
      'foreign key constraint fails',
      'keyboard: de',
      'monkey: 5',
    ],
    ...[
      'order 4012888888881882 shipped',
      'timestamp 1732800000000',
      'at 1732800000000000',
      'call +4915112345678 failed',
      'phone 4915112345678',
      'trackingId: 4111111111111111',
      'id=4111111111111111',
    ],
    ...[
      'uuid 550e8400-e29b-41d4-a716-446655440000',
      'commit 3f786850e387550fdab836ed7e6dc881de23001b',
      'trace 4bf92f3577b34da6a3ce929d0e0e4736',
      'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    ],
    ...[
      'code: ECONNRESET',
      'status code 500',
      'error code: 12345',
      'exit code is 137',
      'zip code 10115',
      'country code: 49',
      'response code is 404',
      'GET /cb?code=404',
      'GET /a?key=name&sort=asc',
    ],
    ...[
      'auth: ok',
      'auth service up',
      'authentication failed for user bob',
      'authenticated: true',
      'signature mismatch',
      'function signature: foo(bar)',
      'OTP sent',
      'otp expired',
      'pin accepted',
      'PIN entry timed out',
    ],
    ...[
      'api key missing',
      'API key not valid',
      'no api key given',
      'missing token',
      'token refresh failed: timeout',
      'token bucket empty',
      'refreshing access token for tenant 5',
      'using secret db-credentials from vault',
    ],
    ...[
      'mysql -p is deprecated',
      'curl -u is not allowed',
      'docker run -p 8080:80 web',
      'ssh -p 2222 host',
      'mkdir -p /var/log/app',
      'INSERT INTO users (name, age) VALUES (?, ?)',
      'INSERT INTO users (name, password) VALUES (?, ?)',
    ],
    ...[
      'SELECT password FROM users',
      'UPDATE users SET password = $1 WHERE id = $2',
      'password=***',
      'password: [REDACTED]',
      'password: [object Object]',
      'token=<your-token>',
      'secret: {{SECRET}}',
      'token: [Filtered]',
      'password=$' + 'DB_PASSWORD',
      'token=<redacted>',
      'password=$' + '{DB_PASSWORD}',
      'Cookie: [masked]',
      'seedling: 5',
      'salted caramel: 2',
    ],
    ...[
      'https://hooks.slack.com is up',
      'see https://discord.com/developers',
      'http://localhost:3000/api?page=2',
      'queue "pin-reminders" has 3 jobs',
      'author=bob',
      'dog tokens: 3',
      'tokens: 512',
      'prompt tokens: 10',
      'max_tokens=256',
    ],
  ].map((message) => ({ message })),
  { promptTokens: 12, completionTokens: 7, totalTokens: 19 },
  { token_type: 'bearer', expires_in: 3600 },
  { tokens: 12, tokenCount: 5, maxTokens: 100, usage: { input_tokens: 5, output_tokens: 7 } },
  {
    passwordChanged: true,
    hasPassword: false,
    isSecret: true,
    passwordChangedAt: '2026-11-28',
    passwordLength: 12,
    passwordPolicy: 'strong',
  },
  {
    pincode: '560001',
    zipCode: '10115',
    postcode: 'AB1 2CD',
    countryCode: 'DE',
    code: 'ECONNRESET',
    errorCode: 'E1234',
    statusCode: 500,
  },
  { requestId: '01KE70Q0VG0000000000000001', traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' },
  {
    accountSid: 'AC86f23c73739884b77100faf96fa1d18e',
    callSid: 'CA86f23c73739884b77100faf96fa1d18e',
    sid: 'CA86f23c73739884b77100faf96fa1d18e',
  },
  {
    apiKeyId: 'k-7',
    accessKeyName: 'ci',
    keyId: 7,
    publicKey: 'pk',
    cacheKey: 'user:42',
    primaryKey: 'id',
    partitionKey: 'tenant-5',
    idempotencyKey: '550e8400-e29b-41d4-a716-446655440000',
    routingKey: 'calls.created',
  },
  {
    key: 'user:42',
    name: 'bob',
    author: 'Jane',
    authority: 'a',
    secretary: 'Jane',
    compass: 'north',
    bypass: 'yes',
    classname: 'Foo',
    passenger: 'Bob',
    cardinality: 5,
    pinned: 'top',
    spin: 'up',
  },
  {
    authorizationStatus: 'denied',
    authenticated: true,
    authMethod: 'oauth',
    authProvider: 'google',
    session: null,
    sessionCount: 5,
    sessionDurationMs: 1200,
    cookieCount: 3,
    cookiePolicy: 'strict',
  },
  { card: { brand: 'visa', last4: '1111', expMonth: 12 }, payment: { method: 'card' } },
  {
    orderId: '4111111111111111',
    timeMs: 1_732_800_000_000,
    phone: '4915112345678',
    to: '+4915112345678',
    imei: '490154203237518',
  },
  {
    list: [
      { name: 'retries', value: '5' },
      { key: 'colour', value: 'red' },
    ],
    required: ['email', 'password'],
    fields: ['token', 'secret'],
    allowed: ['x-api-key', 'accept'],
  },
  { env: { NODE_ENV: 'production', PWD: '/srv/app', OLDPWD: '/root', HOME: '/root', SSH_AUTH_SOCK: '/tmp/x' } },
  {
    config: {
      tokenEndpoint: 'https://h/token',
      secretName: 'db',
      passwordField: 'pw',
      signatureVersion: 'v4',
      keySize: 2048,
      pinTimeoutSec: 5,
    },
  },
  {
    error: {
      name: 'Error',
      message: 'x',
      code: 'ETIMEDOUT',
      stack: 'Error: x\n    at Object.token (/app/token.js:12:5)\n    at auth (/app/auth/session.js:3:1)',
    },
  },
];
