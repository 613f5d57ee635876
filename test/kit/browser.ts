// A real Chromium that looks at the page. In: an address. Out: a page as playwright-core has it, with everything that must not happen to
// it: errors and warnings on its console, and requests to anybody but its own server. Guarantee: closed with the test.
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { onTestFinished } from 'vitest';
import { browserProgram } from './programs.ts';

export const DESKTOP = { width: 1280, height: 800 } as const;
export const PHONE = { width: 375, height: 812 } as const;

export interface Watched {
  readonly page: Page;
  /** What went wrong so far, in words. */
  readonly problems: readonly string[];
}

export interface OpenOptions {
  readonly viewport?: { readonly width: number; readonly height: number };
  readonly colorScheme?: 'light' | 'dark';
  /** Milliseconds to wait for anything on the page. */
  readonly patienceMs?: number;
}

/** @throws Error that says how to install Chromium */
export async function startBrowser(): Promise<Browser> {
  // Without a sandbox of its own, because the tests of CI run as root; it loads nothing but what we serve.
  const args = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'];
  const browser = await chromium.launch({ executablePath: browserProgram(), args });
  onTestFinished(() => browser.close());
  return browser;
}

/** A new, empty profile, as of somebody who has never been here. */
export async function openPage(browser: Browser, address: string, options: OpenOptions = {}): Promise<Watched> {
  const { viewport = DESKTOP, colorScheme = 'light', patienceMs = 30_000 } = options;
  const settings: BrowserContextOptions = { viewport, colorScheme, reducedMotion: 'reduce', locale: 'en-GB' };
  const context = await browser.newContext(settings);
  context.setDefaultTimeout(patienceMs);
  const page = await context.newPage();
  const problems: string[] = [];
  const { origin } = new URL(address);
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') {
      problems.push(`${message.type()}: ${message.text()} (${message.location().url})`);
    }
  });
  page.on('pageerror', (error) => problems.push(`thrown: ${error.stack ?? error.message}`));
  page.on('dialog', (dialog) => {
    problems.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) problems.push(`it asked ${request.url()}`);
  });
  await page.goto(address);
  return { page, problems };
}

/** What a screen reader or a keyboard would stumble over, in words. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  // Evaluated through the debugger, because the page's own policy permits no script but its own.
  await page.evaluate(axe.source);
  const violations = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run();
    return violations.map(({ id, help, nodes }) => ({ id, help, targets: nodes.map(({ html }) => html) }));
  });
  return violations.map(({ id, help, targets }) => `${id}: ${help}: ${targets.slice(0, 3).join(' | ')}`);
}

/** By how many pixels the page is wider than the window: 0 on a good phone page. */
export function overflow(page: Page): Promise<number> {
  return page.evaluate(
    'document.documentElement.scrollWidth - document.documentElement.clientWidth',
  ) as Promise<number>;
}
