import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delta, filesIn, isAddress, pretty, readable, shownAs } from '../../../sdk/http/page/outputs.js';
import { progressOf } from '../../../sdk/http/page/progress.js';
import { afterError, afterLine, isFinal, isRepeatedByStream, MAX_PARTS, newRun } from '../../../sdk/http/page/runstate.js';

const file = { uri: '/content/a', content_type: 'image/png', size: 10, filename: 'a.png' };
const stateLine = (status, more = {}) => JSON.stringify({ id: 'task_1', status, session_id: 's', output: null, events: [], ...more });
const partLine = (output) => JSON.stringify({ id: 'task_1', status: 7, session_id: 's', output });
const after = (lines, step = 0.1) => lines.reduce((run, line, index) => afterLine(run, line, 100 + index * step), newRun('chat', 'generate', {}, 100));

test('pieces of text are joined, other parts are listed', () => {
  const run = after([stateLine(6), partLine({ text: 'Hello ' }), partLine({ text: 'you' }), partLine({ n: 1 }), stateLine(10, { output: { n: 2 } })]);
  assert.deepEqual([run.state, run.text, run.parts, run.count, run.output, run.session, run.task], ['completed', 'Hello you', [{ n: 1 }], 3, { n: 2 }, 's', 'task_1']);
  assert.ok(isFinal(run) && run.ended !== null);
  assert.ok(!isRepeatedByStream(run));
});

test('a line about the state is no part, though it has an output', () => {
  const run = after([partLine({ text: 'a' }), stateLine(7, { output: { text: 'a' }, progress: { n: 1, total: 2 } })]);
  assert.deepEqual([run.text, run.count, run.progress], ['a', 1, { n: 1, total: 2 }]);
});

test('equal parts count, a line said again in silence does not', () => {
  assert.equal(after([partLine({ text: 'a' }), partLine({ text: 'a' })]).text, 'a\na');
  assert.equal(after([partLine({ text: 'a' }), partLine({ text: 'a' })], 15).text, 'a');
});

test('an output that was streamed already is not shown twice', () => {
  assert.ok(isRepeatedByStream(after([partLine({ i: 1 }), stateLine(10, { output: { i: 1 } })])));
  assert.ok(isRepeatedByStream(after([partLine({ text: 'a' }), stateLine(10, { output: { text: 'a' } })])));
  assert.ok(!isRepeatedByStream(after([stateLine(10, { output: { i: 1 } })])));
});

test('pieces join to a text that can be read', () => {
  const said = (...pieces) => after(pieces.map((text) => partLine({ text })), 0.1);
  assert.equal(said('Hello', ' you').text, 'Hello you');
  assert.equal(said('one', 'two', 'three').text, 'one\ntwo\nthree');
  assert.equal(said('The', 'The answer', 'The answer is', 'The answer is').text, 'The answer is');
  assert.equal(said('The', 'The answer', 'Done').text, 'The answer\nDone');
  assert.equal(said('', 'a').text, 'a');
  assert.equal(after([partLine('one'), partLine('two')]).text, 'one\ntwo');
});

test('a text is hidden only where it was read already', () => {
  const ended = (pieces, output) => after([...pieces.map((text) => partLine({ text })), stateLine(10, { output })]);
  assert.ok(isRepeatedByStream(ended(['Hello', ' you'], { text: 'Hello you' })));
  assert.ok(isRepeatedByStream(ended(['The', 'The answer'], 'The answer')));
  assert.ok(isRepeatedByStream(ended(['one', 'two', 'three'], { text: 'three' })));
  assert.ok(!isRepeatedByStream(ended(['one', 'two', 'three'], { text: 'six' })));
  assert.ok(!isRepeatedByStream(ended(['one', 'two'], null)));
  const known = ended(['He', 'llo'], 'Hello');
  assert.ok(isRepeatedByStream(known));
  assert.equal(readable(known.pieces, known.output), 'Hello');
});

test('failures say why', () => {
  const failed = after([stateLine(11, { error: 'ValueError: no', error_code: 'APP_ERROR' })]);
  assert.deepEqual([failed.state, failed.error, failed.code], ['failed', 'ValueError: no', 'APP_ERROR']);
  const refused = afterError(newRun('a', 'f', {}, 1), { message: 'no room', code: 'NO_ROOM' }, 2);
  assert.deepEqual([refused.state, refused.error, refused.code, refused.ended], ['failed', 'no room', 'NO_ROOM', 2]);
});

test('parts are bounded', () => {
  const run = after(Array.from({ length: MAX_PARTS + 50 }, (_each, n) => partLine({ n })), 0.001);
  assert.deepEqual([run.parts.length, run.count, run.parts[0]], [MAX_PARTS, MAX_PARTS + 50, { n: 50 }]);
});

test('pieces of text are texts, or objects of a text alone', () => {
  assert.deepEqual([delta('a'), delta({ text: 'a' }), delta({ text: 'a', n: 1 }), delta({ text: 1 }), delta(null), delta(5)], ['a', 'a', null, null, null, null]);
});

test('files are found wherever they are', () => {
  assert.deepEqual(filesIn({ a: [file, { b: file }], c: 'x', d: null }), [file, file]);
  assert.deepEqual(filesIn({ uri: 'x' }), []);
  assert.deepEqual(['image/png', 'audio/wav', 'video/mp4', 'text/html'].map((content_type) => shownAs({ ...file, content_type })), ['image', 'audio', 'video', 'link']);
  assert.equal(pretty({ a: file }), '{\n  "a": "(file a.png)"\n}');
});

test('links lead to files, not to scripts', () => {
  const good = ['https://a/b', 'HTTP://a', 'blob:https://a/1', 'data:image/png;base64,AA'];
  const bad = ['javascript:alert(1)', ' javascript:x', 'data:text/html,x', 'file:///etc', '', 'httpx'];
  assert.deepEqual([good.every(isAddress), bad.some(isAddress)], [true, false]);
});

test('progress as tqdm tells it, and otherwise', () => {
  assert.equal(progressOf(null), null);
  assert.deepEqual(progressOf({ n: 30, total: 120, desc: 'epoch: ', rate: 12.5, unit: 'batch' }), { fraction: 0.25, text: 'epoch: 30 of 120, 13 batch/s, 7 s left' });
  assert.deepEqual(progressOf({ n: 3, total: null }), { fraction: null, text: '3 it' });
  assert.deepEqual([progressOf(0.5), progressOf(1234), progressOf('loading'), progressOf({ step: 1 })], [
    { fraction: 0.5, text: '50 %' }, { fraction: null, text: '1,234' }, { fraction: null, text: 'loading' }, { fraction: null, text: '{"step":1}' },
  ]);
  assert.equal(progressOf({ n: 150, total: 100 }).fraction, 1);
});
