// @ts-check
/** One run, as the lines of its stream tell of it. */

import { delta, joined, readable } from './outputs.js';

/**
 * @typedef {import('./types.js').Task} Task
 * @typedef {object} Run
 * @property {string} app
 * @property {string} function
 * @property {any} input
 * @property {number} started seconds, by the browser's clock
 * @property {number | null} ended
 * @property {string | null} task
 * @property {string | null} session
 * @property {'sent' | 'queued' | 'starting' | 'running' | 'cancelling' | 'completed' | 'failed' | 'cancelled'} state
 * @property {string} text pieces of text, joined
 * @property {import('./outputs.js').Joined} [pieces] what it is joined of
 * @property {any[]} parts others, the latest
 * @property {number} count of all parts
 * @property {any} output
 * @property {any} progress
 * @property {string | null} error
 * @property {string | null} code
 * @property {string} last the line before
 * @property {number} lastAt
 */

export const MAX_PARTS = 200;
const MAX_TEXT = 200_000;
const REPEATED_AFTER = 14;
/** @type {Record<number, Run['state']>} */
const STATES = { 2: 'queued', 6: 'starting', 7: 'running', 8: 'cancelling', 10: 'completed', 11: 'failed', 12: 'cancelled' };

/** @param {string} app @param {string} name @param {any} input @param {number} now @returns {Run} */
export function newRun(app, name, input, now) {
  return {
    app, function: name, input, started: now, ended: null, task: null, session: null, state: 'sent', text: '', parts: [],
    count: 0, output: undefined, progress: null, error: null, code: null, last: '', lastAt: now,
  };
}

/** @param {Run} run */
export function isFinal(run) {
  return run.state === 'completed' || run.state === 'failed' || run.state === 'cancelled';
}

/**
 * @param {Run} run
 * @param {string} line
 * @param {number} now
 * @returns {Run}
 */
export function afterLine(run, line, now) {
  // A silent stream says its last line again, which is no part of its own.
  const repeated = line === run.last && now - run.lastAt >= REPEATED_AFTER;
  const heard = { ...run, last: line, lastAt: now };
  return repeated ? heard : afterTask(heard, JSON.parse(line), now);
}

/** @param {Run} run @param {Task} task @param {number} now @returns {Run} */
export function afterTask(run, task, now) {
  const state = STATES[task.status] ?? run.state;
  const next = { ...run, state, task: task.id, session: task.session_id ?? run.session };
  if (task.progress !== undefined && task.progress !== null) next.progress = task.progress;
  if (!task.events && task.status === 7) return withPart(next, task.output);
  if (!isFinal(next)) return next;
  return { ...next, ended: now, output: task.output, error: task.error ?? null, code: task.error_code ?? null };
}

/** @param {Run} run @param {any} part @returns {Run} */
function withPart(run, part) {
  const piece = delta(part);
  if (piece !== null) {
    const pieces = joined(run.pieces, piece, MAX_TEXT);
    return { ...run, count: run.count + 1, pieces, text: readable(pieces, undefined) };
  }
  return { ...run, count: run.count + 1, parts: [...run.parts, part].slice(-MAX_PARTS) };
}

/** @param {Run} run @param {{ message: string, code?: string | null }} error @param {number} now @returns {Run} */
export function afterError(run, error, now) {
  return { ...run, state: 'failed', ended: now, error: error.message, code: error.code ?? null };
}

/** Whether what was streamed is all of the output already. @param {Run} run */
export function isRepeatedByStream(run) {
  if (!run.count) return false;
  const last = run.parts.length ? run.parts[run.parts.length - 1] : null;
  const text = delta(run.output)?.slice(-MAX_TEXT);
  if (run.pieces && text !== undefined && [run.pieces.plain, run.pieces.lines, run.pieces.last].includes(text)) return true;
  return last !== null && JSON.stringify(last) === JSON.stringify(run.output);
}
