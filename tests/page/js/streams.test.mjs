import assert from 'node:assert/strict';
import { test } from 'node:test';
import { partsOf } from '../../../sdk/http/page/ansi.js';
import { LogLines, MAX_LINES } from '../../../sdk/http/page/loglines.js';
import { linesOf, LineSplitter } from '../../../sdk/http/page/ndjson.js';
import { Rate } from '../../../sdk/http/page/rates.js';
import { Ring } from '../../../sdk/http/page/ring.js';

test('lines are found wherever the stream was cut', () => {
  const whole = '{"a":1}\n\n{"b":"é"}\r\nrest';
  for (let cut = 0; cut <= whole.length; cut += 1) {
    const splitter = new LineSplitter();
    const lines = [...splitter.push(whole.slice(0, cut)), ...splitter.push(whole.slice(cut))];
    assert.deepEqual([...lines, splitter.end()], ['{"a":1}', '', '{"b":"é"}', 'rest']);
    assert.equal(splitter.end(), '');
  }
});

test('a body is read as lines, also where a character was cut', async () => {
  const sent = new TextEncoder().encode('"é"\n\n"ü"');
  const body = new ReadableStream({
    start(controller) {
      for (const byte of sent) controller.enqueue(new Uint8Array([byte]));
      controller.close();
    },
  });
  const lines = [];
  for await (const line of linesOf(body)) lines.push(line);
  assert.deepEqual(lines, ['"é"', '"ü"']);
});

test('whoever leaves a body early closes it', async () => {
  let closed = false;
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode('1\n')),
    cancel: () => void (closed = true),
  });
  for await (const line of linesOf(body)) if (line) break;
  await Promise.resolve();
  assert.ok(closed);
});

test('a ring keeps the latest, in order', () => {
  const ring = new Ring(3);
  for (const item of [1, 2, 3, 4, 5]) ring.push(item);
  assert.deepEqual([...ring], [3, 4, 5]);
  assert.deepEqual([...ring.newest()], [5, 4, 3]);
  assert.deepEqual([ring.at(0), ring.at(2), ring.at(3), ring.at(-1), ring.length, ring.added], [3, 5, undefined, undefined, 3, 5]);
  ring.clear();
  assert.deepEqual([...ring], []);
  ring.push(6);
  assert.deepEqual([...ring], [6]);
});

test('a rate is of the last seconds, and of no more than was watched', () => {
  const rate = new Rate(10);
  assert.equal(rate.per(100), 0);
  rate.start(100);
  rate.add(100.5, 4);
  assert.equal(rate.per(100.5), 4, 'within the first second it is not made larger');
  rate.add(104, 4);
  assert.equal(rate.per(104), 2);
  assert.equal(rate.per(113), 0.4);
  assert.equal(rate.per(200), 0);
});

test('lines of a log wait to be drawn, but only as many as are kept', () => {
  const lines = new LogLines();
  assert.equal(lines.push('no end'), false);
  assert.equal(lines.push(' yet\n'), true);
  assert.deepEqual(lines.take(), ['no end yet']);
  lines.push(Array.from({ length: MAX_LINES + 2 }, (_each, index) => `${index}\n`).join(''));
  lines.push('last');
  lines.end();
  const taken = lines.take();
  assert.deepEqual([taken.length, taken[0], taken[taken.length - 1]], [MAX_LINES, '3', 'last']);
});

test('colours of a terminal become styles, all else of it goes', () => {
  assert.deepEqual(partsOf('plain'), [{ text: 'plain', style: '' }]);
  assert.deepEqual(partsOf('a\x1b[1;31mb\x1b[22mc\x1b[0md'), [
    { text: 'a', style: '' }, { text: 'b', style: 'red bold' }, { text: 'c', style: 'red' }, { text: 'd', style: '' },
  ]);
  assert.deepEqual(partsOf('\x1b[38;5;31mx\x1b[2K\x1b]0;title\x07y\x07'), [{ text: 'x', style: '' }, { text: 'y', style: '' }]);
  assert.deepEqual(partsOf(' 10%\r 50%\r100%\r'), [{ text: '100%', style: '' }], 'a bar that draws over itself');
  assert.deepEqual(partsOf('a\tb'), [{ text: 'a\tb', style: '' }]);
});
