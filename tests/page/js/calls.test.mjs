import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coldAgainstWarm, columns, latency, quantile } from '../../../sdk/http/page/stats.js';
import { barAt, barOf, lanesOf, runningBar, segments, ticks, timeAt, xOf } from '../../../sdk/http/page/timeline-geometry.js';

const call = (more = {}) => ({
  id: 'c', session: 's', app: 'chat', function: 'generate', arrived: 10, ended: 13, code: null, message: '', cold: false, queue: 0, spawn: 0, imports: 0, setup: 0, run: 1, first: null, ...more,
});
const kinds = (each) => segments(each).map(({ kind, from, to }) => [kind, from, to]);

test('a call is its phases, one after the other', () => {
  assert.deepEqual(kinds(call()), [['run', 10, 11]]);
  assert.deepEqual(kinds(call({ queue: 1, spawn: 0.25, imports: 0.25, setup: 0.5, run: 1, first: 0.25, cold: true })), [
    ['queue', 10, 11], ['start', 11, 12], ['run', 12, 12.25], ['stream', 12.25, 13],
  ]);
});

test('a failure is all red from where it began to run, or from where its wait ended', () => {
  assert.deepEqual(kinds(call({ code: 'APP_ERROR', queue: 1, run: 2 })), [['queue', 10, 11], ['failed', 11, 13]]);
  assert.deepEqual(kinds(call({ code: 'TIMEOUT', queue: null, run: null })), [['failed', 10, 13]]);
  assert.deepEqual(kinds(call({ code: 'CANCELLED', queue: 9, run: null })), [['queue', 10, 13], ['failed', 13, 13]]);
});

test('lanes are of sessions that did something in the window, with what runs now', () => {
  const rows = [
    { id: 's', kind: 'session', app: 'chat', state: 'busy', created: 1, running: { call: 'r', function: 'run', since: 95 } },
    { id: 'n', kind: 'session', app: 'data', state: 'starting', created: 99, running: null },
    { id: 'i', kind: 'session', app: 'data', state: 'idle', created: 99, running: null },
    { id: 'pool_1', kind: 'pool', app: 'data', state: 'busy', created: 9, running: { call: 'p', function: 'run', since: 98 } },
  ];
  const calls = [call({ id: 'old', ended: 20 }), call({ id: 'in', arrived: 50, ended: 60 }), call({ id: 'pooled', session: null, app: 'data', arrived: 70, ended: 71 })];
  const lanes = lanesOf(rows, calls, { from: 40, to: 100 }, 100, ({ session }) => session ?? 'pool');
  assert.deepEqual(lanes.map(({ key, label, bars }) => [key, label, bars.map((bar) => bar.id)]), [
    ['s', 's', ['r', 'in']], ['n', 'n', ['start n']], ['pool data', 'pool', ['p', 'pooled']],
  ]);
  assert.deepEqual([lanes[0].bars[0].to, lanes[0].bars[0].live], [100, true]);
});

test('a session that comes is a bar of what it does, one that rests or leaves is none', () => {
  const kindOf = (state) => runningBar({ id: 'n', kind: 'session', app: 'chat', state, created: 95, running: null }, 100)?.segments[0].kind;
  assert.deepEqual(['looking_up', 'placing', 'starting'].map(kindOf), ['start', 'queue', 'start']);
  assert.deepEqual(['idle', 'parked', 'stopping', 'gone'].map(kindOf), [undefined, undefined, undefined, undefined]);
});

test('calls that came to no worker have a lane of their own', () => {
  const pooled = { session: null, arrived: 50, ended: 51 };
  const calls = [call({ ...pooled, code: 'BUSY', ran: 'no' }), call({ ...pooled, code: 'APP_ERROR', ran: 'yes' }), call({ ...pooled, code: 'CANCELLED', ran: 'no' })];
  const lanes = lanesOf([], calls, { from: 40, to: 100 }, 100, ({ refused }) => (refused ? 'refused' : 'pool'));
  assert.deepEqual(lanes.map(({ key, label, bars }) => [key, label, bars.length]), [['refused chat', 'refused', 1], ['pool chat', 'pool', 2]]);
});

test('times and places are each other', () => {
  const window = { from: 100, to: 160 };
  assert.equal(xOf(130, window, 700, 100), 400);
  assert.equal(timeAt(400, window, 700, 100), 130);
  assert.deepEqual(ticks(window, 600), { marks: [100, 110, 120, 130, 140, 150, 160], places: 0 });
  assert.ok(ticks({ from: 0, to: 1800 }, 300).marks.length <= 4);
  const close = ticks({ from: 100, to: 100.06 }, 300);
  assert.deepEqual([close.marks.map((each) => each.toFixed(2)), close.places], [['100.00', '100.02', '100.04', '100.06'], 2]);
});

test('the bar under the pointer, or the nearest; what runs goes before what waits', () => {
  const first = barOf(call({ id: 'first', arrived: 10, run: 2, ended: 12 }));
  const second = barOf(call({ id: 'second', arrived: 11, queue: 1, run: 1, ended: 13 }));
  const lane = { key: 's', session: 's', app: 'chat', label: 's', bars: [second, first] };
  assert.equal(barAt(lane, 11.5, 0.5)?.id, 'first');
  assert.equal(barAt(lane, 12.5, 0.5)?.id, 'second');
  assert.equal(barAt(lane, 13.4, 0.5)?.id, 'second');
  assert.equal(barAt(lane, 20, 0.5), null);
  assert.equal(barAt(undefined, 20, 0.5), null);
});

test('quantiles lie between neighbours', () => {
  assert.equal(quantile([], 0.5), null);
  assert.deepEqual([quantile([3], 0.9), quantile([1, 3], 0.5), quantile([1, 2, 3, 4, 5], 0.9)], [3, 2, 4.6]);
});

test('cold against warm: with the start, without failures', () => {
  const cold = call({ cold: true, spawn: 1, imports: 2, setup: 3, run: 1 });
  assert.equal(latency(cold), 7);
  assert.equal(latency(call({ run: null })), null);
  const [chat, data] = coldAgainstWarm([call({ app: 'data' }), cold, call({ run: 0.5 }), call({ run: 1.5 }), call({ code: 'APP_ERROR', run: 99 })]);
  assert.deepEqual([chat.app, chat.cold.count, chat.warm.count, chat.warm.median, chat.factor], ['chat', 1, 2, 1, 7]);
  assert.deepEqual([data.app, data.cold.median, data.factor], ['data', null, null]);
});

test('columns of a plot: ascending, the newest, over a minute at least', () => {
  const points = [{ at: 200, cold: true, seconds: 2 }, { at: 100, cold: false, seconds: 1 }];
  assert.deepEqual(columns(points, 10), [[100, 200], [1, null], [null, 2]]);
  assert.deepEqual(columns(points, 1), [[40, 100], [null, 1], [null, null]]);
  assert.deepEqual(columns([], 5), [[], [], []]);
});
