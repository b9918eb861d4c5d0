import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apply, lost, MAX_CALLS, MAX_ENDED, Model, totals } from '../../../sdk/http/page/model.js';
import { parseRoute, keyInFragment, sessionRoute, tryRoute } from '../../../sdk/http/page/route.js';
import { gpuFacts, left, rowTexts, sameTexts } from '../../../sdk/http/page/rowtexts.js';
import { matching, sorted, turned } from '../../../sdk/http/page/sorting.js';

const row = (id, more = {}) => ({
  id, kind: 'session', app: 'counter', name: null, labels: {}, state: 'idle', created: 100, last_call: null, calls: 0, queued: 0, running: null,
  idle_timeout: 60, expires_at: 160, held_until: null, lives_until: null, origin: 'fork', pid: 1, memory: 1000, cpu: null, gpu: null, reason: null,
  progress: null, ...more,
});
const call = (id) => ({ id, session: 'a', app: 'counter', function: 'run', arrived: 1, ended: 2, code: null, message: '', cold: false, queue: 0, spawn: 0, imports: 0, setup: 0, run: 1, first: null });
const snapshot = (sessions, more = {}) => ({ type: 'snapshot', now: 1000, gateway: { may: ['read'], key: 'k' }, daemon: { boot: 'one', memory: 10, max_sessions: 4 }, sessions, calls: [], ...more });

test('a snapshot is all there is, and its clock counts', () => {
  const model = new Model();
  apply(model, snapshot([row('a')], { calls: [call('c')] }), 990);
  assert.equal(model.link, 'live');
  assert.equal(model.now(991), 1001);
  assert.deepEqual([...model.sessions.keys()], ['a']);
  assert.equal(model.calls.length, 1);
  assert.deepEqual([model.may('read'), model.may('run')], [true, false]);
});

test('a change replaces rows, and leaves the others the same objects', () => {
  const model = new Model();
  apply(model, snapshot([row('a'), row('b')]), 0);
  const before = model.sessions.get('b');
  apply(model, { type: 'change', now: 1001, sessions: [row('a', { calls: 1 })], usage: { a: [2000, 0.5], gone: [1, 1] }, calls: [call('c')], calls_total: 300, daemon: { cpu: 0.1 } }, 1);
  assert.deepEqual([model.sessions.get('a').calls, model.sessions.get('a').memory, model.sessions.get('a').cpu], [1, 2000, 0.5]);
  assert.equal(model.sessions.get('b'), before);
  assert.equal(model.sessions.size, 2);
  const sums = totals(model, 1001);
  assert.deepEqual([sums.rate, sums.memory, sums.cpu], [300, 3010, 0.6]);
});

test('what ends is kept for a while, with its reason; workers of the pool are not', () => {
  const model = new Model();
  apply(model, snapshot([row('a', { running: { call: 'c', function: 'f', since: 1 } }), row('p', { kind: 'pool' })]), 0);
  apply(model, { type: 'change', now: 1002, sessions: [row('a', { state: 'died', reason: 'killed' }), row('p', { kind: 'pool', state: 'expired' })] }, 0);
  assert.equal(model.sessions.size, 0);
  assert.deepEqual(model.ended.map((each) => [each.id, each.reason, each.ended_at, each.running]), [['a', 'killed', 1002, null]]);
  assert.equal(model.find('a').state, 'died');
  for (let n = 0; n < MAX_ENDED + 5; n += 1) apply(model, { type: 'change', now: 1003, sessions: [row(`e${n}`, { state: 'ended' })] }, 0);
  assert.equal(model.ended.length, MAX_ENDED);
  assert.equal(model.ended[0].id, `e${MAX_ENDED + 4}`);
});

test('a daemon that is lost leaves everything as it was; another one has other sessions', () => {
  const model = new Model();
  apply(model, snapshot([row('a'), row('p', { kind: 'pool' })], { calls: [call('c')] }), 0);
  apply(model, { type: 'down', now: 1005, detail: 'no daemon' }, 5);
  assert.deepEqual([model.link, model.detail, model.lostAt, model.sessions.size], ['daemon-lost', 'no daemon', 5, 2]);
  lost(model, 'gateway-lost', 'cut', 9);
  assert.equal(model.lostAt, 5, 'lost since the first loss');
  apply(model, snapshot([row('b')], { daemon: { boot: 'two' }, calls: [call('c'), call('d')] }), 0);
  assert.deepEqual([model.link, model.lostAt, [...model.sessions.keys()]], ['live', 0, ['b']]);
  assert.deepEqual(model.ended.map((each) => [each.id, each.reason]), [['a', 'The daemon that held it is gone.']]);
  assert.deepEqual([...model.calls].map((each) => each.id), ['c', 'd'], 'calls that are known are not told twice');
});

test('what ended while nobody listened is said so', () => {
  const model = new Model();
  apply(model, snapshot([row('a'), row('b')]), 0);
  apply(model, snapshot([row('b', { state: 'expired', reason: 'idle' })]), 0);
  assert.deepEqual(model.ended.map((each) => [each.id, each.reason]), [['a', 'It ended while this page was not connected.'], ['b', 'idle']]);
});

test('calls are bounded', () => {
  const model = new Model();
  apply(model, snapshot([]), 0);
  for (let n = 0; n < 60; n += 1) apply(model, { type: 'change', now: 1000, calls: Array.from({ length: 100 }, (_each, i) => call(`${n}.${i}`)) }, 0);
  assert.equal(model.calls.length, MAX_CALLS);
});

test('sorting is steady, by number or by name', () => {
  const rows = [row('a', { calls: 2, created: 3 }), row('b', { calls: 9, created: 1, app: 'Zeta', expires_at: null }), row('c', { calls: 2, created: 2, state: 'busy' }), row('d', { state: 'strange', created: 9 })];
  const ids = (column, down) => sorted(rows, { column, down }).map((each) => each.id).join('');
  assert.equal(ids('calls', true), 'bcad');
  assert.equal(ids('calls', false), 'dcab');
  assert.equal(ids('state', false), 'cbad', 'unknown states come last');
  assert.equal(ids('left', false), 'cadb', 'never is later than all times');
  assert.equal(ids('age', false), 'dacb', 'newest first');
  assert.equal(ids('nonsense', false), 'dacb');
  assert.deepEqual(turned({ column: 'calls', down: true }, 'calls'), { column: 'calls', down: false });
  assert.deepEqual([turned({ column: 'x', down: true }, 'app').down, turned({ column: 'x', down: false }, 'memory').down], [false, true]);
});

test('memory on GPUs, where it is and what it waits for', () => {
  const gpu = { memory: 8 * 2 ** 30, reserved: 9 * 2 ** 30, parked: 0, gpus: {}, kept: null, moves: 0, park_seconds: null, unpark_seconds: null, waits_since: null };
  const parked = { ...gpu, memory: 0, parked: 8 * 2 ** 30, moves: 2, park_seconds: 4.2, unpark_seconds: 1.6 };
  const waiting = { ...gpu, memory: 0, reserved: 0, waits_since: 118, kept: 'its app says so' };
  const rows = [row('a', { gpu }), row('b', { gpu: parked, state: 'parked' }), row('c', { gpu: waiting, state: 'placing' }), row('d')];
  assert.deepEqual(rows.map((each) => rowTexts(each, 130).gpu), ['8.0 GiB', 'parked 8.0 GiB', 'waits 12 s', '–']);
  assert.deepEqual(rows.map((each) => rowTexts(each, 130).tone), ['idle', 'quiet', 'starting', 'idle']);
  assert.equal(sorted(rows, { column: 'gpu', down: true }).map((each) => each.id).join(''), 'abcd');
  assert.equal(sorted(rows, { column: 'state', down: false }).map((each) => each.id).join(''), 'cadb');
  assert.deepEqual(gpuFacts(gpu, 130), [['GPU', '8.0 GiB, 9.0 GiB reserved']]);
  assert.deepEqual(gpuFacts(parked, 130), [['GPU', 'parked 8.0 GiB, comes back when 9.0 GiB are free'], ['Parked', '2 times, the last in 4.2 s, and back in 1.6 s']]);
  assert.deepEqual(gpuFacts(waiting, 130), [['GPU', 'waits 12 s'], ['Not parked', 'its app says so']]);
  assert.deepEqual(gpuFacts(null, 130), []);
});

test('the filter wants every word, anywhere', () => {
  const rows = [row('sess_abc', { name: 'Mine' }), row('sess_def', { app: 'chat', labels: { team: 'nlp' }, running: { call: 'c', function: 'generate', since: 0 } })];
  const found = (filter) => matching(rows, filter).map((each) => each.id);
  assert.deepEqual(found(' '), ['sess_abc', 'sess_def']);
  assert.deepEqual([found('mine'), found('ABC counter'), found('chat team=nlp generate'), found('chat abc')], [['sess_abc'], ['sess_abc'], ['sess_def'], []]);
});

test('idle time is a bar and a countdown, where there is one', () => {
  assert.deepEqual(left(row('a'), 130), { left: '30 s', leftFraction: 0.5 });
  assert.deepEqual(left(row('a', { expires_at: null }), 130), { left: '–', leftFraction: null });
  assert.deepEqual(left(row('a', { expires_at: null, idle_timeout: null }), 130), { left: 'never', leftFraction: null });
  assert.deepEqual(left(row('a', { held_until: 190 }), 130), { left: 'held 60 s', leftFraction: null });
});

test('a row that looks the same is not drawn again', () => {
  const old = row('a', { created: 0, expires_at: 900, idle_timeout: 1000, memory: 50 << 20 });
  assert.ok(sameTexts(rowTexts(old, 140), rowTexts({ ...old, memory: old.memory + 1000 }, 140.4)));
  assert.ok(!sameTexts(rowTexts(old, 130), rowTexts({ ...old, calls: 1 }, 130)));
});

test('where the page is', () => {
  assert.deepEqual(parseRoute(''), { view: 'sessions', name: '', query: {} });
  assert.deepEqual(parseRoute(sessionRoute('sess_a')), { view: 'session', name: 'sess_a', query: {} });
  assert.deepEqual(parseRoute(tryRoute('a/b c', { session: 'new' })), { view: 'try', name: 'a/b c', query: { session: 'new' } });
  assert.deepEqual(parseRoute('#/try/%E0'), { view: 'try', name: '%E0', query: {} });
  assert.equal(parseRoute('#/nowhere').view, 'sessions');
  assert.deepEqual(keyInFragment('#key=wk_a%2Bb'), { key: 'wk_a+b', rest: '#/' });
  assert.equal(keyInFragment('#/try/x?key=wk_a'), null);
});
