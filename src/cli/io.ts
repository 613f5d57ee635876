// Where commands write: results to `out`, everything said about them to `err`.

export interface Io {
  out(line: string): void;
  err(line: string): void;
}

/** Standard output and error; a reader that goes away (`| head`) ends the process quietly. */
export function processIo(): Io {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return {
    out: (line) => void process.stdout.write(`${line}\n`),
    err: (line) => void process.stderr.write(`${line}\n`),
  };
}
