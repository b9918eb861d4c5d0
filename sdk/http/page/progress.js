// @ts-check
/** What an app tells of how far it is: mostly what tqdm tells. */

import { count, span } from './format.js';

/**
 * @param {any} value
 * @returns {{ fraction: number | null, text: string } | null} null where nothing was told
 */
export function progressOf(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === 'number') return ofNumber(value);
  if (typeof value !== 'object') return { fraction: null, text: String(value) };
  if (typeof value.n === 'number') return ofBar(value);
  if (typeof value.fraction === 'number') return ofNumber(value.fraction);
  return { fraction: null, text: JSON.stringify(value) };
}

/** @param {number} value */
function ofNumber(value) {
  return value >= 0 && value <= 1 ? { fraction: value, text: `${Math.round(value * 100)} %` } : { fraction: null, text: count(value) };
}

/** @param {{ n: number, total?: number | null, desc?: string | null, rate?: number | null, unit?: string | null }} bar */
function ofBar({ n, total, desc, rate, unit }) {
  const whole = typeof total === 'number' && total > 0 ? total : null;
  const name = (unit ?? 'it').trim();
  const label = desc ? `${desc.replace(/:\s*$/, '')}: ` : '';
  const speed = rate ? `, ${rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} ${name}/s` : '';
  const left = whole && rate && n < whole ? `, ${span((whole - n) / rate)} left` : '';
  const done = whole ? `${count(n)} of ${count(whole)}` : `${count(n)} ${name}`;
  return { fraction: whole ? Math.min(1, Math.max(0, n / whole)) : null, text: `${label}${done}${speed}${left}` };
}
