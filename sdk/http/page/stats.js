// @ts-check
/** Cold against warm, an app at a time. */

/**
 * @typedef {import('./types.js').Call} Call
 * @typedef {{ count: number, median: number | null, p90: number | null }} Summary
 * @typedef {{ at: number, cold: boolean, seconds: number }} Point
 * @typedef {{ app: string, cold: Summary, warm: Summary, factor: number | null, points: Point[] }} AppStats
 */

/**
 * The value below which a part of them lies, between neighbours in proportion; null of none.
 * @param {number[]} ascending
 * @param {number} part
 */
export function quantile(ascending, part) {
  if (!ascending.length) return null;
  const place = (ascending.length - 1) * part;
  const below = Math.floor(place);
  const above = Math.min(below + 1, ascending.length - 1);
  return ascending[below] + (ascending[above] - ascending[below]) * (place - below);
}

/**
 * What a call takes once it is its turn: a cold one with its start.  Null where that was not told.
 * @param {Call} call
 */
export function latency(call) {
  if (call.run === null || call.run === undefined) return null;
  return call.cold ? (call.spawn ?? 0) + (call.imports ?? 0) + (call.setup ?? 0) + call.run : call.run;
}

/** @param {number[]} seconds @returns {Summary} */
function summary(seconds) {
  const ascending = seconds.sort((a, b) => a - b);
  return { count: ascending.length, median: quantile(ascending, 0.5), p90: quantile(ascending, 0.9) };
}

/**
 * Of the calls that ended well; apps by name.
 * @param {Iterable<Call>} calls
 * @returns {AppStats[]}
 */
export function coldAgainstWarm(calls) {
  /** @type {Map<string, AppStats['points']>} */
  const points = new Map();
  for (const call of calls) {
    const seconds = call.code ? null : latency(call);
    if (seconds === null) continue;
    const those = points.get(call.app) ?? [];
    if (!those.length) points.set(call.app, those);
    those.push({ at: call.ended, cold: call.cold, seconds });
  }
  return [...points].sort(([a], [b]) => (a < b ? -1 : 1)).map(([app, those]) => statsOf(app, those));
}

/** @param {string} app @param {AppStats['points']} points @returns {AppStats} */
function statsOf(app, points) {
  const cold = summary(points.filter((p) => p.cold).map((p) => p.seconds));
  const warm = summary(points.filter((p) => !p.cold).map((p) => p.seconds));
  const both = cold.median !== null && warm.median !== null && warm.median > 0;
  return { app, cold, warm, points, factor: both ? Number(cold.median) / Number(warm.median) : null };
}

const LEAST_SPAN_SECONDS = 60;

/**
 * Columns for a plot over time: times ascending, and a latency in one of two columns.  They span a
 * minute at least, so that a single point has an axis, too.
 * @param {AppStats['points']} points
 * @param {number} most how many, the newest
 * @returns {[number[], (number | null)[], (number | null)[]]}
 */
export function columns(points, most) {
  const shown = points.slice(-most).sort((a, b) => a.at - b.at);
  const times = shown.map((p) => p.at);
  const warm = shown.map((p) => (p.cold ? null : p.seconds));
  const cold = shown.map((p) => (p.cold ? p.seconds : null));
  const from = times[times.length - 1] - LEAST_SPAN_SECONDS;
  return times[0] > from ? [[from, ...times], [null, ...warm], [null, ...cold]] : [times, warm, cold];
}
