// Whether a server speaks TLS: behind an `http://` address one shows as a bare "socket hang up", which helps nobody.
import { connect } from 'node:tls';

/** Shakes hands and sends nothing. False too when nobody answers within a second. */
export function speaksTls(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port || 80),
      rejectUnauthorized: false,
      timeout: 1_000,
    });
    const answer = (tls: boolean) => {
      socket.destroy();
      resolve(tls);
    };
    socket.once('secureConnect', () => answer(true));
    socket.once('error', () => answer(false));
    socket.once('timeout', () => answer(false));
  });
}
