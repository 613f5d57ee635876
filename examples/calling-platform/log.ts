// What the platform's parts need of a logger; a Winston logger fits.

export interface AppLog {
  error(message: string, meta?: object): void;
  warn(message: string, meta?: object): void;
  info(message: string, meta?: object): void;
}
