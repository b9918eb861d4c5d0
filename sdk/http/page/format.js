// @ts-check
/** Numbers as people read them: short, with a unit, and without jitter in their last digits. */

/** @typedef {import('./types.js').Row} Row */

export const NOTHING = '–';

/** Made once: with `toLocaleString` each number would make its own. */
const THOUSANDS = new Intl.NumberFormat('en-US');
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

/**
 * A measured time, to three digits: `0.42 ms`, `36 ms`, `1.24 s`, `2 min 5 s`.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  if (seconds <= 0) return '0 ms';
  const ms = seconds * 1000;
  if (ms < 999.5) return `${threeDigits(ms)} ms`;
  if (seconds < 59.95) return `${threeDigits(seconds)} s`;
  return coarse(seconds);
}

/** @param {number} value */
function threeDigits(value) {
  const places = value < 0.995 ? 2 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return value.toFixed(places).replace(/\.0+$|(\.\d*[1-9])0+$/, '$1');
}

/** @param {number} seconds */
function coarse(seconds) {
  const whole = Math.round(seconds);
  if (whole < HOUR) return pair(whole, MINUTE, 'min', 1, 's');
  if (whole < DAY) return pair(whole, HOUR, 'h', MINUTE, 'min');
  return pair(whole, DAY, 'd', HOUR, 'h');
}

/** @param {number} whole @param {number} unit @param {string} name @param {number} part @param {string} partName */
function pair(whole, unit, name, part, partName) {
  const rest = Math.floor((whole % unit) / part);
  return `${Math.floor(whole / unit)} ${name}${rest ? ` ${rest} ${partName}` : ''}`;
}

/**
 * A time that goes on, in its largest unit: `12 s`, `3 min`, `5 h`, `2 d`.
 * @param {number | null | undefined} seconds
 */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)} h`;
  return `${Math.floor(whole / DAY)} d`;
}

/**
 * What is left of a time: seconds within the last two minutes, whole minutes before.
 * @param {number | null | undefined} seconds
 */
export function countdown(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  const whole = Math.max(0, Math.ceil(seconds));
  return whole <= 2 * MINUTE ? `${whole} s` : span(whole + MINUTE - 1);
}

/** @param {number | null | undefined} count */
export function bytes(count) {
  if (count === null || count === undefined) return NOTHING;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 9.95 && unit > 1 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/**
 * A fraction of one core.
 * @param {number | null | undefined} fraction
 */
export function cores(fraction) {
  if (fraction === null || fraction === undefined) return NOTHING;
  return `${Math.round(fraction * 100)} %`;
}

/** @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined) return NOTHING;
  return value < 1000 && value > -1000 ? String(value) : THOUSANDS.format(value);
}

/** @param {number} perSecond */
export function rate(perSecond) {
  return perSecond > 0 && perSecond < 9.95 ? perSecond.toFixed(1) : String(Math.round(perSecond));
}

/** @param {number | null} times */
export function factor(times) {
  if (times === null || !Number.isFinite(times)) return NOTHING;
  return `${times < 9.95 ? times.toFixed(1) : count(Math.round(times))}×`;
}

/** @param {string} id */
export function shortId(id) {
  return id.replace(/^(sess|pool|task)_/, '').slice(0, 8);
}

/** @param {Pick<Row, 'id' | 'name'>} row */
export function title(row) {
  return row.name || shortId(row.id);
}

/** A name where only a text can be, so that one written from the right leaves what is beside it in place. @param {string} name */
export function isolated(name) {
  return `\u2068${name}\u2069`;
}

/**
 * `1 session`, `2 sessions`.
 * @param {number} number
 * @param {string} noun
 */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/**
 * The local time of day.
 * @param {number} seconds since the epoch
 * @param {number} [places] decimals of its seconds
 */
export function clock(seconds, places = 0) {
  const at = new Date(Math.round(seconds * 1000));
  const whole = [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
  return places ? `${whole}.${String(at.getMilliseconds()).padStart(3, '0').slice(0, places)}` : whole;
}
