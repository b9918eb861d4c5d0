import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anyOf, fits, initial, newItem, numberOf, typedAs, variantOf, withItem, withKey } from '../../../sdk/http/page/formvalue.js';
import { fieldOf, isFileField, isLong, takesNothing, variantWord } from '../../../sdk/http/page/schema.js';

const model = {
  type: 'object',
  required: ['size', 'prompt', 'kind'],
  properties: {
    steps: { type: 'integer', default: 20 },
    prompt: { type: 'string', description: 'What to draw.' },
    size: { $ref: '#/$defs/Size', description: 'In pixels.' },
    kind: { const: 'image' },
    seed: { anyOf: [{ type: 'integer' }, { type: 'null' }], default: null },
    mode: { enum: ['fast', 'good'], default: 'fast' },
    image: { anyOf: [{ type: 'string', format: 'file' }, { type: 'null' }] },
    tags: { type: 'array', items: { type: 'string' } },
    extra: { type: 'object' },
    data: {},
    colour: { oneOf: [{ const: 'red' }, { const: 'blue' }, { type: 'null' }] },
    level: { type: ['number', 'null'] },
  },
  $defs: { Size: { type: 'object', required: ['w'], properties: { w: { type: 'integer' }, of: { $ref: '#/$defs/Size' } } } },
};
const field = fieldOf(model, 'input');
const part = (name) => field.fields.find((each) => each.name === name);

test('each kind of a schema is a kind of field', () => {
  const kinds = Object.fromEntries(field.fields.map((each) => [each.name, each.kind]));
  assert.deepEqual(kinds, {
    prompt: 'text', size: 'object', kind: 'const', steps: 'integer', seed: 'integer', mode: 'enum', image: 'text', tags: 'array', extra: 'map', data: 'any',
    colour: 'enum', level: 'number',
  });
  assert.deepEqual(field.fields.slice(0, 3).map((each) => each.required), [true, true, true], 'what is required comes first');
});

test('null beside something makes it one that may be left empty', () => {
  assert.deepEqual([part('seed').nullable, part('level').nullable, part('colour').nullable, part('steps').nullable], [true, true, true, false]);
  assert.deepEqual(part('colour').options, ['red', 'blue']);
});

test('references are looked up, also those that go round', () => {
  assert.equal(part('size').description, 'In pixels.');
  let at = part('size');
  for (let depth = 0; at.kind === 'object'; depth += 1) {
    assert.ok(depth < 20);
    at = at.fields.find((each) => each.name === 'of');
  }
  assert.equal(at.kind, 'any');
  assert.equal(fieldOf({ $ref: '#/nowhere' }, 'x').kind, 'any');
  assert.equal(fieldOf({ $ref: '#' }, 'x').kind, 'any');
});

test('allOf is laid together', () => {
  const both = fieldOf({ allOf: [{ $ref: '#/$defs/A' }, { properties: { b: { type: 'string' } } }], $defs: { A: { type: 'string' } } }, 'x');
  assert.deepEqual([both.kind, both.fields.map((each) => each.name)], ['object', ['b']]);
});

test('alternatives', () => {
  const union = fieldOf({ anyOf: [{ type: 'object', properties: { code: { type: 'string' } }, required: ['code'] }, { type: 'string' }] }, 'input');
  assert.deepEqual(union.variants.map(variantWord), ['fields', 'a text']);
  assert.deepEqual([variantOf(union, { code: 'x' }), variantOf(union, 'x'), variantOf(union, undefined), variantOf(union, 5)], [0, 1, 0, 0]);
  assert.equal(fieldOf({ type: ['string', 'integer'] }, 'x').kind, 'union');
});

test('odd schemas are fields for any value', () => {
  for (const schema of [{}, { default: null }, true, null, { type: 'strange' }]) assert.equal(fieldOf(schema, 'x').kind, 'any');
});

test('what is sent when nothing is filled in: what is required, and no defaults', () => {
  assert.deepEqual(initial(field), { kind: 'image', size: {} });
  assert.equal(initial(fieldOf({ default: null }, 'input', false)), undefined);
  assert.deepEqual(initial(fieldOf({ type: 'object', properties: {}, additionalProperties: false }, 'input')), {});
  assert.equal(initial({ ...part('steps'), required: true }), 20);
  assert.deepEqual([newItem(part('tags').item), newItem(part('steps')), newItem(part('data'))], ['', 20, null]);
});

test('which fields are empty, long, or files', () => {
  assert.ok(takesNothing(fieldOf({ type: 'object', properties: {}, additionalProperties: false }, 'x')));
  assert.ok(takesNothing(fieldOf({ type: 'object', additionalProperties: false }, 'x')));
  assert.ok(!takesNothing(fieldOf({ type: 'object' }, 'x')));
  assert.deepEqual([isLong(part('prompt')), isLong(part('image')), isFileField(part('image')), isFileField(part('prompt'))], [true, false, true, false]);
});

test('a value that a field cannot show is known', () => {
  assert.ok(fits(field, { prompt: 'x', size: { w: 1 }, kind: 'image', seed: null, unknown: 1 }));
  for (const wrong of [5, [], { prompt: 5 }, { size: { w: [] } }, { mode: 'slow' }, { tags: [1] }]) assert.ok(!fits(field, wrong), JSON.stringify(wrong));
  assert.ok(fits(part('steps'), 'x'), 'a number may be typed wrong');
});

test('typing', () => {
  assert.deepEqual([numberOf(' 5 '), numberOf('5.5'), numberOf(''), numberOf('x'), numberOf('Infinity')], [5, 5.5, undefined, 'x', 'Infinity']);
  assert.deepEqual([anyOf('{"a": 1}'), anyOf('hello'), anyOf('5'), anyOf(' '), anyOf('"5"')], [{ a: 1 }, 'hello', 5, undefined, '5']);
  for (const value of [{ a: [1, 2] }, 'hello', 5, '5', null, true, undefined]) assert.deepEqual(anyOf(typedAs(value)), value);
});

test('values are changed by making others', () => {
  const before = { a: 1, b: 2 };
  assert.deepEqual(Object.entries(withKey(before, 'a', 3)), [['a', 3], ['b', 2]], 'in its place');
  assert.deepEqual([withKey(before, 'a', undefined), withKey(undefined, 'x', 1), before], [{ b: 2 }, { x: 1 }, { a: 1, b: 2 }]);
  assert.deepEqual([withItem([1, 2], 0, 5), withItem([1, 2], 0, undefined)], [[5, 2], [2]]);
});
