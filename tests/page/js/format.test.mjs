import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, clock, cores, count, countdown, duration, factor, plural, rate, shortId, span, title } from '../../../sdk/http/page/format.js';

test('measured times have three digits and the unit that fits', () => {
  const told = [0.00042, 0.036, 0.0999, 0.99949, 1.236, 59.9, 59.96, 125, 3600, 7380, 90000].map(duration);
  assert.deepEqual(told, ['0.42 ms', '36 ms', '99.9 ms', '999 ms', '1.24 s', '59.9 s', '1 min', '2 min 5 s', '1 h', '2 h 3 min', '1 d 1 h']);
  assert.deepEqual([0, null, undefined, NaN].map(duration), ['0 ms', '–', '–', '–']);
  assert.equal(duration(0.1), '100 ms', 'zeros that are digits stay');
});

test('times that go on are told in their largest unit', () => {
  assert.deepEqual([-3, 0, 59.9, 60, 3599, 3600, 90000, null].map(span), ['0 s', '0 s', '59 s', '1 min', '59 min', '1 h', '1 d', '–']);
});

test('countdowns are exact at their end, and never say too little', () => {
  assert.deepEqual([0, -1, 0.2, 119.5, 120.5, 299, 300, 3600].map(countdown), ['0 s', '0 s', '1 s', '120 s', '3 min', '5 min', '5 min', '1 h']);
});

test('bytes', () => {
  assert.deepEqual([0, 1023, 1024, 21.5 * 2 ** 20, 1.5 * 2 ** 30, 2 ** 40, null].map(bytes), ['0 B', '1023 B', '1 KiB', '22 MiB', '1.5 GiB', '1.0 TiB', '–']);
});

test('counts, rates, factors, cores', () => {
  assert.deepEqual([0, 999, 1234567, null].map(count), ['0', '999', '1,234,567', '–']);
  assert.deepEqual([0, 0.25, 9.96, 50].map(rate), ['0', '0.3', '10', '50']);
  assert.deepEqual([1.04, 36.2, 1432, null, Infinity].map(factor), ['1.0×', '36×', '1,432×', '–', '–']);
  assert.deepEqual([0, 0.034, 1.5, null].map(cores), ['0 %', '3 %', '150 %', '–']);
  assert.deepEqual([plural(1, 'call'), plural(2, 'call')], ['1 call', '2 calls']);
});

test('times of day, as exact as they are asked for', () => {
  assert.match(clock(1000), /^\d\d:\d\d:\d\d$/);
  assert.match(clock(1000.0399999, 2), /:40\.04$/);
});

test('names of sessions', () => {
  assert.equal(shortId('sess_0123456789abcdef'), '01234567');
  assert.equal(title({ id: 'sess_0123456789abcdef', name: null }), '01234567');
  assert.equal(title({ id: 'sess_0123456789abcdef', name: 'mine' }), 'mine');
});
