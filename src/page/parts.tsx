// What the views are built of. In: plain values. Out: elements with names that a screen reader says, reached by keyboard. Guarantee: text that
// came from a log is only ever a text node; what a colour says is also said in words.
import type { ComponentChildren, TargetedMouseEvent } from 'preact';
import { useId } from 'preact/hooks';
import { hrefOf, type Params, type View } from './address.ts';
import { address, nowMs } from './app.ts';
import { fullTime, relative, UNKNOWN } from './format.ts';

export type Tone = 'good' | 'warn' | 'bad' | 'quiet' | 'info';

// ---- links ----

/** To a view with parameters, without loading the page anew. */
export function Link({
  to,
  params = {},
  children,
  class: className,
  current = false,
}: {
  to: View;
  params?: Params;
  children: ComponentChildren;
  class?: string;
  current?: boolean;
}) {
  const follow = (event: TargetedMouseEvent<HTMLAnchorElement>) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    address.open(to, params);
  };
  return (
    <a href={hrefOf(to, params)} onClick={follow} class={className} aria-current={current ? 'page' : undefined}>
      {children}
    </a>
  );
}

// ---- small things ----

export function Badge({ tone = 'quiet', children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** "3 min ago", with the whole time to point at, or both side by side. */
export function Time({ at, both = false }: { at: string | number | null | undefined; both?: boolean }) {
  if (at === null || at === undefined) return <span>{UNKNOWN}</span>;
  const atMs = typeof at === 'number' ? at : Date.parse(at);
  if (Number.isNaN(atMs)) return <span>{UNKNOWN}</span>;
  const whole = fullTime(atMs);
  const iso = new Date(atMs).toISOString();
  if (!both) {
    return (
      <time dateTime={iso} title={whole}>
        {relative(atMs, nowMs.value)}
      </time>
    );
  }
  return (
    <time dateTime={iso}>
      {whole.slice(0, 19)} <span class="dim">({relative(atMs, nowMs.value)})</span>
    </time>
  );
}

/** What went wrong, with a way to try again. */
export function Problem({ text, again }: { text: string | undefined | null; again?: () => void }) {
  if (text === undefined || text === null) return null;
  return (
    <div class="problem" role="alert">
      <p>{sentence(text)}</p>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Nothing to show, and why that may be. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return <p class="loading">Loading {what} …</p>;
}

/** A part of a view, with its heading. */
export function Section({
  title,
  children,
  aside,
  class: className = '',
}: {
  title: string;
  children: ComponentChildren;
  aside?: ComponentChildren;
  class?: string;
}) {
  const id = useId();
  return (
    <section class={`section ${className}`} aria-labelledby={id}>
      <div class="section-head">
        <h2 id={id}>{title}</h2>
        {aside}
      </div>
      {children}
    </section>
  );
}

// ---- choices ----

/** One of a few, as buttons side by side. */
export function Choice<T extends string>({
  label,
  options,
  value,
  onChoose,
}: {
  label: string;
  options: readonly (T | readonly [value: T, text: string])[];
  value: T;
  onChoose: (value: T) => void;
}) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset brings a frame and a legend along
    <div class="choice" role="group" aria-label={label}>
      {options.map((option) => {
        const [own, text] = typeof option === 'string' ? [option, option] : option;
        return (
          <button type="button" key={own} aria-pressed={own === value} onClick={() => onChoose(own)}>
            {text}
          </button>
        );
      })}
    </div>
  );
}

// ---- tables ----

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => ComponentChildren;
  /** Numbers stand right. */
  readonly isNumber?: boolean;
  /** The cell that names the row. */
  readonly isHeading?: boolean;
}

/** On a phone each row becomes a card; the caption is for screen readers unless it is shown. */
export function Table<Row>({
  caption,
  columns,
  rows,
  keyOf,
  showCaption = false,
}: {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  showCaption?: boolean;
}) {
  return (
    <table class="table">
      <caption class={showCaption ? undefined : 'unseen'}>{caption}</caption>
      <thead>
        <tr>
          {columns.map(({ title, isNumber }) => (
            <th key={title} scope="col" class={isNumber ? 'number' : undefined}>
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)}>
            {columns.map(({ title, cell, isNumber, isHeading }) =>
              isHeading ? (
                <th key={title} scope="row">
                  {cell(row)}
                </th>
              ) : (
                <td key={title} data-title={title} class={isNumber ? 'number' : undefined}>
                  <div>{cell(row)}</div>
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** As a sentence: begins large and ends with a point. */
export function sentence(text: string): string {
  return /[.!?…]$/.test(text) ? begun(text) : `${begun(text)}.`;
}

export function begun(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
