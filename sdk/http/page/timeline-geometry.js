// @ts-check
/** Where the bars of the timeline are: pure arithmetic, in seconds and in pixels. */

/**
 * @typedef {import('./types.js').Row} Row
 * @typedef {import('./types.js').Call} Call
 * @typedef {{ kind: 'queue' | 'start' | 'run' | 'stream' | 'failed', from: number, to: number }} Segment
 * @typedef {object} Bar a call that has ended, or one that runs
 * @property {string} id
 * @property {Call | null} call
 * @property {string} function
 * @property {number} from
 * @property {number} to
 * @property {Segment[]} segments
 * @property {boolean} live
 * @typedef {{ key: string, session: string | null, app: string, label: string, bars: Bar[] }} Lane
 * @typedef {{ from: number, to: number }} Window
 * @typedef {{ session: string | null, app: string, refused: boolean }} Place
 */

/** @param {Call} call @returns {Segment[]} */
export function segments(call) {
  if (call.run === null || call.run === undefined || call.queue === null) return broken(call);
  const start = (call.spawn ?? 0) + (call.imports ?? 0) + (call.setup ?? 0);
  const first = call.first === null || call.first === undefined ? call.run : Math.min(call.first, call.run);
  /** @type {[Segment['kind'], number][]} */
  const parts = [['queue', call.queue], ['start', start]];
  if (call.code) parts.push(['failed', call.run]);
  else parts.push(['run', first], ['stream', call.run - first]);
  let at = call.arrived;
  const made = /** @type {Segment[]} */ ([]);
  for (const [kind, seconds] of parts) {
    if (seconds > 0) made.push({ kind, from: at, to: at + seconds });
    at += Math.max(0, seconds);
  }
  return made;
}

/** A call that failed before all its times were known. @param {Call} call @returns {Segment[]} */
function broken(call) {
  const queue = Math.min(call.queue ?? 0, call.ended - call.arrived);
  const failed = { kind: /** @type {const} */ ('failed'), from: call.arrived + queue, to: call.ended };
  return queue > 0 ? [{ kind: 'queue', from: call.arrived, to: call.arrived + queue }, failed] : [failed];
}

/** @param {Call} call @returns {Bar} */
export function barOf(call) {
  const parts = segments(call);
  const to = Math.max(call.ended, parts.length ? parts[parts.length - 1].to : 0);
  return { id: call.id, call, function: call.function, from: call.arrived, to, segments: parts, live: false };
}

/**
 * What a session does that is not there yet; one that is `placing` waits for GPU memory.
 * @type {Record<string, 'queue' | 'start'>}
 */
const COMING = { looking_up: 'start', placing: 'queue', starting: 'start' };

/** @param {Row} row @param {number} now @returns {Bar | null} */
export function runningBar(row, now) {
  if (row.running) {
    const { call, function: name, since } = row.running;
    const to = Math.max(since, now);
    return { id: call, call: null, function: name, from: since, to, segments: [{ kind: 'run', from: since, to }], live: true };
  }
  const kind = COMING[row.state];
  if (!kind) return null;
  const to = Math.max(row.created, now);
  const start = { kind, from: row.created, to };
  return { id: `start ${row.id}`, call: null, function: '', from: row.created, to, segments: [start], live: true };
}

/**
 * A lane for each session that did something within the window, in the order of their creation.
 * @param {Iterable<Row>} rows
 * @param {Iterable<Call>} newestFirst
 * @param {Window} window
 * @param {number} now
 * @param {(call: Place) => string} label
 * @returns {Lane[]}
 */
export function lanesOf(rows, newestFirst, window, now, label) {
  /** @type {Map<string, Lane>} */
  const lanes = new Map();
  for (const row of rows) {
    const bar = runningBar(row, Math.min(now, window.to));
    if (!bar || bar.to < window.from || bar.from > window.to) continue;
    laneFor(lanes, { app: row.app, session: row.kind === 'session' ? row.id : null, refused: false }, label).bars.push(bar);
  }
  for (const call of newestFirst) {
    if (call.ended < window.from || call.arrived > window.to) continue;
    laneFor(lanes, { app: call.app, session: call.session, refused: isRefused(call) }, label).bars.push(barOf(call));
  }
  return [...lanes.values()];
}

/** One that came to no worker, and not because its caller gave it up. @param {Call} call */
function isRefused(call) {
  return call.ran === 'no' && !call.session && call.code !== 'CANCELLED';
}

/** @param {Map<string, Lane>} lanes @param {Place} place @param {(call: Place) => string} label */
function laneFor(lanes, place, label) {
  const { app, session, refused } = place;
  const key = session ?? `${refused ? 'refused' : 'pool'} ${app}`;
  let lane = lanes.get(key);
  if (!lane) lanes.set(key, (lane = { key, session, app, label: label(place), bars: [] }));
  return lane;
}

/** @param {number} at @param {Window} window @param {number} width @param {number} gutter */
export function xOf(at, window, width, gutter) {
  return gutter + ((at - window.from) / (window.to - window.from)) * (width - gutter);
}

/** @param {number} x @param {Window} window @param {number} width @param {number} gutter */
export function timeAt(x, window, width, gutter) {
  return window.from + ((x - gutter) / (width - gutter)) * (window.to - window.from);
}

const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * Times for the axis, at round distances, not closer than 80 pixels; `places`: decimals that tell them apart.
 * @param {Window} window
 * @param {number} pixels
 */
export function ticks(window, pixels) {
  const span = window.to - window.from;
  const step = STEPS.find((each) => (each / span) * pixels >= 80) ?? span;
  const first = Math.ceil(window.from / step);
  const last = Math.floor(window.to / step + 1e-6);
  const marks = Array.from({ length: Math.max(0, last - first + 1) }, (_each, index) => (first + index) * step);
  return { marks, places: step < 1 ? Math.ceil(-Math.log10(step)) : 0 };
}

/**
 * The bar at a time, or the nearest one within a distance.
 * @param {Lane | undefined} lane
 * @param {number} at
 * @param {number} slack seconds
 */
export function barAt(lane, at, slack) {
  let best = null;
  let distance = slack;
  for (const bar of lane?.bars ?? []) {
    const away = at < bar.from ? bar.from - at : at > bar.to ? at - bar.to : 0;
    const ran = bar.segments.find((part) => part.kind !== 'queue') ?? bar.segments[0];
    const waiting = ran && at < ran.from ? slack / 2 : 0;
    if (away + waiting < distance || (best === null && away + waiting <= distance)) {
      best = bar;
      distance = away + waiting;
    }
  }
  return best;
}
