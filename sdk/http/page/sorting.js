// @ts-check
/** The order and choice of sessions in the table. */

import { stateOrder } from './phases.js';

/**
 * @typedef {import('./types.js').Row} Row
 * @typedef {{ column: string, down: boolean }} Order
 */

/** @type {Record<string, (row: Row) => string | number>} */
const VALUES = {
  app: (row) => row.app,
  session: (row) => `${row.name ? 0 : 1}${row.name ?? row.id}`,
  state: (row) => stateOrder(row.state),
  age: (row) => -row.created,
  left: (row) => row.expires_at ?? Infinity,
  calls: (row) => row.calls,
  queued: (row) => row.queued,
  memory: (row) => row.memory ?? -1,
  cpu: (row) => row.cpu ?? -1,
  gpu: (row) => gpuMemory(row.gpu) ?? -1,
};

/** What it has, on a GPU or in host memory. @param {Row['gpu']} gpu */
export function gpuMemory(gpu) {
  return gpu ? gpu.memory + gpu.parked : null;
}

/**
 * Equal ones stay in the order in which they were created, so that nothing jumps about.
 * @param {Row[]} rows
 * @param {Order} order
 */
export function sorted(rows, order) {
  const value = VALUES[order.column] ?? VALUES.age;
  const sign = order.down ? -1 : 1;
  return [...rows].sort((a, b) => sign * compare(value(a), value(b)) || a.created - b.created || compare(a.id, b.id));
}

/** @param {string | number} a @param {string | number} b */
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Numbers begin with the largest, names with the first. @param {Order} order @param {string} column @returns {Order} */
export function turned(order, column) {
  if (order.column === column) return { column, down: !order.down };
  return { column, down: !['app', 'session', 'state', 'left', 'age'].includes(column) };
}

/**
 * Rows in which each word of the filter occurs: in app, name, id, state, label, or the running function.
 * @param {Row[]} rows
 * @param {string} filter
 */
export function matching(rows, filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return rows;
  return rows.filter((row) => {
    const text = textOf(row);
    return words.every((word) => text.includes(word));
  });
}

/** @param {Row} row */
function textOf(row) {
  const labels = Object.entries(row.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  return [row.app, row.name, row.id, row.state, row.kind, row.running?.function, ...labels].join(' ').toLowerCase();
}
