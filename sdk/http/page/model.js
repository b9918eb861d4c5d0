// @ts-check
/**
 * All that the page knows, and how a line of the live stream changes it.
 *
 * Rows are replaced, never changed in place: a row that is the same object looks the same, and is
 * not drawn again.  All times are the gateway's; `clockAhead` turns the browser's into them.
 */

import { isOver, isSession } from './phases.js';
import { Rate } from './rates.js';
import { Ring } from './ring.js';

/**
 * @typedef {import('./types.js').Row} Row
 * @typedef {import('./types.js').Call} Call
 * @typedef {import('./types.js').Line} Line
 * @typedef {import('./types.js').Gateway} Gateway
 * @typedef {import('./types.js').Daemon} Daemon
 * @typedef {'connecting' | 'live' | 'daemon-lost' | 'gateway-lost' | 'refused'} Link
 */

export const MAX_CALLS = 5000;
export const MAX_ENDED = 50;

export class Model {
  constructor() {
    /** @type {Link} */
    this.link = 'connecting';
    /** Why it is not live, in the words that came. */
    this.detail = '';
    /** When the daemon or the gateway was lost, by the browser's clock. */
    this.lostAt = 0;
    /** @type {Gateway | null} */
    this.gateway = null;
    /** @type {Daemon | null} */
    this.daemon = null;
    /** @type {Map<string, Row>} */
    this.sessions = new Map();
    /** @type {Row[]} newest first */
    this.ended = [];
    /** @type {Ring<Call>} */
    this.calls = new Ring(MAX_CALLS);
    this.rate = new Rate();
    this.clockAhead = 0;
  }

  /** @param {string} scope */
  may(scope) {
    const may = this.gateway?.may;
    return !may || may.includes(scope) || may.includes('admin');
  }

  /** The gateway's time. @param {number} local seconds */
  now(local) {
    return local + this.clockAhead;
  }

  /** A session that lives or has ended lately. @param {string} id */
  find(id) {
    return this.sessions.get(id) ?? this.ended.find((row) => row.id === id);
  }
}

/**
 * @param {Model} model
 * @param {Line} line
 * @param {number} local seconds, by the browser's clock
 */
export function apply(model, line, local) {
  model.clockAhead = line.now - local;
  if (line.type === 'snapshot') snapshot(model, line);
  else if (line.type === 'change') change(model, line);
  else if (line.type === 'down') lost(model, 'daemon-lost', line.detail ?? '', local);
}

/**
 * @param {Model} model
 * @param {Link} link
 * @param {string} detail
 * @param {number} local
 */
export function lost(model, link, detail, local) {
  if (model.link === 'live' || !model.lostAt) model.lostAt = local;
  model.link = link;
  model.detail = detail;
}

/** @param {Model} model @param {Line} line */
function snapshot(model, line) {
  const gone = model.daemon !== null && line.daemon?.boot !== model.daemon.boot;
  const before = [...model.sessions.values()];
  model.link = 'live';
  model.detail = '';
  model.lostAt = 0;
  model.gateway = line.gateway ?? model.gateway;
  model.daemon = /** @type {Daemon} */ (line.daemon ?? null);
  model.sessions = new Map();
  for (const row of line.sessions ?? []) place(model, row, line.now);
  for (const row of before) if (!model.find(row.id) && isSession(row)) missed(model, row, gone, line.now);
  mergeCalls(model, line.calls ?? []);
  model.rate.start(line.now);
}

/**
 * A session whose end nobody told this page of.
 * @param {Model} model
 * @param {Row} row
 * @param {boolean} withDaemon
 * @param {number} now
 */
function missed(model, row, withDaemon, now) {
  const reason = withDaemon ? 'The daemon that held it is gone.' : 'It ended while this page was not connected.';
  bury(model, { ...row, state: 'ended', reason, running: null }, now);
}

/** What the gateway remembers, without what is here already. @param {Model} model @param {Call[]} calls */
function mergeCalls(model, calls) {
  const known = new Set();
  for (const call of model.calls) known.add(call.id);
  for (const call of calls) if (!known.has(call.id)) model.calls.push(call);
}

/** @param {Model} model @param {Line} line */
function change(model, line) {
  for (const row of line.sessions ?? []) place(model, row, line.now);
  for (const [id, [memory, cpu]] of Object.entries(line.usage ?? {})) {
    const row = model.sessions.get(id);
    if (row) model.sessions.set(id, { ...row, memory, cpu });
  }
  for (const call of line.calls ?? []) model.calls.push(call);
  model.rate.add(line.now, line.calls_total ?? line.calls?.length ?? 0);
  if (line.daemon && model.daemon) model.daemon = { ...model.daemon, ...line.daemon };
}

/** @param {Model} model @param {Row} row @param {number} now */
function place(model, row, now) {
  if (isOver(row.state) || row.state === 'gone') bury(model, row, now);
  else model.sessions.set(row.id, row);
}

/** @param {Model} model @param {Row} row @param {number} now */
function bury(model, row, now) {
  model.sessions.delete(row.id);
  if (!isSession(row)) return;
  const others = model.ended.filter((other) => other.id !== row.id);
  model.ended = [{ ...row, running: null, queued: 0, ended_at: row.ended_at ?? now }, ...others].slice(0, MAX_ENDED);
}

/**
 * The figures of the header.
 * @param {Model} model
 * @param {number} now the gateway's
 */
export function totals(model, now) {
  let running = 0;
  let queued = 0;
  let memory = model.daemon?.memory ?? 0;
  let cpu = model.daemon?.cpu ?? 0;
  for (const row of model.sessions.values()) {
    running += row.running ? 1 : 0;
    queued += row.queued;
    memory += row.memory ?? 0;
    cpu += row.cpu ?? 0;
  }
  return { sessions: model.sessions.size, running, queued, memory, cpu, rate: model.rate.per(now) };
}
