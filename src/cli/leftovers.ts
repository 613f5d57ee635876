// The end of the process after the end of the work. In: a command that is done. Out: an end of the process, also when a library
// has left something open. Guarantee: a process that can end by itself does so at once, with the same status.

/** Enough to write what is on its way to a slow terminal; whoever stops a process waits longer before it kills. */
const GRACE_MS = 2_000;

/**
 * kafkajs loses sight of a connection that breaks while it is being closed, and the socket's timers keep the process alive for
 * ever. Call it when nothing is left to be done.
 */
export function endDespiteLeftovers(graceMs = GRACE_MS): void {
  setTimeout(() => process.exit(), graceMs).unref();
}
