// @ts-check
/** A row of the table as the texts that it shows: two that are equal need not be drawn again. */

import { bytes, cores, count, countdown, duration, NOTHING, plural, shortId, span } from './format.js';
import { isAlive, isRunning, isSession, kindWord, stateWord, tone } from './phases.js';

/** @typedef {import('./types.js').Row} Row */

/**
 * @param {Row} row
 * @param {number} now the gateway's
 */
export function rowTexts(row, now) {
  return {
    id: row.id,
    app: row.app,
    name: row.name ?? '',
    shortId: shortId(row.id),
    kind: kindWord(row),
    state: stateWord(row.state),
    tone: tone(row.state),
    running: isRunning(row) ? `${row.running?.function} ${span(now - (row.running?.since ?? now))}` : '',
    age: span(now - row.created),
    ...left(row, now),
    calls: count(row.calls),
    queued: row.queued ? count(row.queued) : '0',
    memory: bytes(row.memory),
    cpu: cores(row.cpu),
    gpu: gpuText(row.gpu, now),
    alive: isAlive(row) && isSession(row),
  };
}

/**
 * The idle time: in words, and the fraction that is left, in steps that can be seen.
 * @param {Row} row
 * @param {number} now
 * @returns {{ left: string, leftFraction: number | null }}
 */
export function left(row, now) {
  if (row.held_until && row.held_until > now) return { left: `held ${countdown(row.held_until - now)}`, leftFraction: null };
  if (row.expires_at !== null && row.expires_at !== undefined) {
    const seconds = Math.max(0, row.expires_at - now);
    const whole = row.idle_timeout ?? seconds;
    const fraction = whole > 0 ? Math.min(1, seconds / whole) : 0;
    return { left: countdown(seconds), leftFraction: Math.round(fraction * 50) / 50 };
  }
  if (row.idle_timeout === null) return { left: 'never', leftFraction: null };
  return { left: NOTHING, leftFraction: null };
}

/** @param {Row['gpu']} gpu @param {number} now */
export function gpuText(gpu, now) {
  if (!gpu) return NOTHING;
  if (gpu.waits_since) return `waits ${span(now - gpu.waits_since)}`;
  return gpu.parked ? `parked ${bytes(gpu.parked)}` : bytes(gpu.memory);
}

/**
 * What is known of a session's memory on GPUs, each with its name.
 * @param {Row['gpu']} gpu
 * @param {number} now
 * @returns {[string, string][]}
 */
export function gpuFacts(gpu, now) {
  if (!gpu) return [];
  const { moves, park_seconds: out, unpark_seconds: back } = gpu;
  const reserved = gpu.parked ? `comes back when ${bytes(gpu.reserved)} are free` : `${bytes(gpu.reserved)} reserved`;
  /** @type {[string, string][]} */
  const facts = [['GPU', gpu.reserved ? `${gpuText(gpu, now)}, ${reserved}` : gpuText(gpu, now)]];
  const returned = back ? `, and back in ${duration(back)}` : '';
  if (moves) facts.push(['Parked', `${plural(moves, 'time')}, the last in ${duration(out)}${returned}`]);
  if (gpu.kept) facts.push(['Not parked', gpu.kept]);
  return facts;
}

/**
 * @template {Record<string, unknown>} T
 * @param {T} a
 * @param {T} b
 */
export function sameTexts(a, b) {
  for (const name in a) if (a[name] !== b[name]) return false;
  return true;
}
