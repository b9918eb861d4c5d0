// @ts-check
/** A JSON Schema as a form: what kind of field shows it, and what is in it. */

/**
 * @typedef {'text' | 'number' | 'integer' | 'boolean' | 'enum' | 'const' | 'object' | 'map' | 'array' | 'union' | 'any' | 'null'} Kind
 * @typedef {object} Field
 * @property {Kind} kind
 * @property {string} name
 * @property {string} label
 * @property {string} description
 * @property {boolean} required
 * @property {boolean} nullable
 * @property {any} fallback the default, undefined where there is none
 * @property {string} format
 * @property {any[]} options of an enumeration, or the one constant
 * @property {Field[]} fields of an object
 * @property {Field | null} item of an array, or of a map's values
 * @property {Field[]} variants of a union
 * @property {any} schema
 */

const MAX_DEPTH = 8;

/**
 * @param {any} schema
 * @param {string} name
 * @param {boolean} [required]
 * @returns {Field}
 */
export function fieldOf(schema, name, required = true) {
  return walk(schema, name, required, schema, 0);
}

/** @param {any} schema @param {string} name @param {boolean} required @param {any} root @param {number} depth @returns {Field} */
function walk(schema, name, required, root, depth) {
  const { plain, nullable } = withoutNull(resolved(schema, root), root);
  const kind = depth > MAX_DEPTH ? 'any' : kindOf(plain);
  const field = blank(kind, plain, name, required, nullable);
  field.fallback = plain.default ?? schema?.default;
  if (kind === 'object') field.fields = properties(plain, root, depth);
  if (kind === 'array') field.item = walk(plain.items ?? {}, 'item', true, root, depth + 1);
  if (kind === 'map') field.item = walk(valuesOf(plain), 'value', true, root, depth + 1);
  if (kind === 'union') field.variants = alternatives(plain).map((/** @type {any} */ each) => walk(each, name, true, root, depth + 1));
  return field;
}

/** @param {Kind} kind @param {any} schema @param {string} name @param {boolean} required @param {boolean} nullable @returns {Field} */
function blank(kind, schema, name, required, nullable) {
  return {
    kind, name, required, nullable, schema, label: name, description: schema.description ?? '', fallback: undefined,
    format: schema.format ?? (schema.contentEncoding ? 'file' : ''), options: optionsOf(schema), fields: [], item: null, variants: [],
  };
}

/** @param {any} schema @param {any} root @param {number} depth */
function properties(schema, root, depth) {
  const required = schema.required ?? [];
  const entries = Object.entries(schema.properties ?? {});
  entries.sort(([a], [b]) => Number(required.includes(b)) - Number(required.includes(a)));
  return entries.map(([name, each]) => walk(each, name, required.includes(name), root, depth + 1));
}

/** @param {any} schema */
function valuesOf(schema) {
  return typeof schema.additionalProperties === 'object' ? schema.additionalProperties : {};
}

/**
 * With its `$ref` looked up and `allOf` laid together; what stands beside them wins.
 * @param {any} schema
 * @param {any} root
 * @param {number} [hops]
 * @returns {any}
 */
function resolved(schema, root, hops = 0) {
  if (typeof schema !== 'object' || schema === null || hops > MAX_DEPTH) return {};
  if (typeof schema.$ref === 'string') {
    const { $ref, ...beside } = schema;
    return { ...resolved(lookUp(root, $ref), root, hops + 1), ...beside };
  }
  if (!Array.isArray(schema.allOf)) return schema;
  const { allOf, ...beside } = schema;
  return Object.assign({}, ...allOf.map((/** @type {any} */ each) => resolved(each, root, hops + 1)), beside);
}

/** @param {any} root @param {string} reference */
function lookUp(root, reference) {
  const steps = reference.replace(/^#\/?/, '').split('/').filter(Boolean);
  return steps.reduce((at, step) => at?.[step.replaceAll('~1', '/').replaceAll('~0', '~')], root);
}

/** @param {any} schema */
function alternatives(schema) {
  return schema.anyOf ?? schema.oneOf ?? [];
}

/**
 * A choice between something and null is that something, which may be left empty.
 * @param {any} schema
 * @param {any} root
 * @returns {{ plain: any, nullable: boolean }}
 */
function withoutNull(schema, root) {
  if (Array.isArray(schema.type)) return ofTypes(schema);
  const all = alternatives(schema).map((/** @type {any} */ each) => resolved(each, root));
  const others = all.filter((/** @type {any} */ each) => each.type !== 'null');
  const nullable = others.length < all.length;
  const { anyOf, oneOf, ...beside } = schema;
  if (all.length && others.every((/** @type {any} */ each) => 'const' in each)) {
    return { plain: { ...beside, enum: others.map((/** @type {any} */ each) => each.const) }, nullable };
  }
  if (others.length === 1) return { plain: { ...resolved(others[0], root), ...beside }, nullable };
  if (!all.length) return { plain: schema, nullable: false };
  return { plain: { ...beside, anyOf: others }, nullable };
}

/** @param {any} schema */
function ofTypes(schema) {
  const types = schema.type.filter((/** @type {string} */ each) => each !== 'null');
  const nullable = types.length < schema.type.length;
  if (types.length === 1) return { plain: { ...schema, type: types[0] }, nullable };
  const { type, ...beside } = schema;
  return { plain: { ...beside, anyOf: types.map((/** @type {string} */ each) => ({ type: each })) }, nullable };
}

/** @param {any} schema @returns {Kind} */
function kindOf(schema) {
  if ('const' in schema) return 'const';
  if (Array.isArray(schema.enum)) return 'enum';
  if (alternatives(schema).length) return 'union';
  if (schema.properties) return 'object';
  switch (schema.type) {
    case 'string': return 'text';
    case 'object': return schema.additionalProperties === false ? 'object' : 'map';
    case 'number': case 'integer': case 'boolean': case 'array': case 'null': return schema.type;
    default: return 'any';
  }
}

/** @param {any} schema */
function optionsOf(schema) {
  return 'const' in schema ? [schema.const] : Array.isArray(schema.enum) ? schema.enum : [];
}

/** What an alternative of a union is called. @param {Field} field */
export function variantWord(field) {
  if (field.schema.title) return field.schema.title;
  /** @type {Partial<Record<Kind, string>>} */
  const words = {
    text: 'a text', number: 'a number', integer: 'a number', boolean: 'yes or no',
    object: 'fields', map: 'fields', array: 'a list', any: 'any value',
  };
  return words[field.kind] ?? field.kind;
}

/** Whether there is nothing to fill in. @param {Field} field */
export function takesNothing(field) {
  return field.kind === 'null' || (field.kind === 'object' && !field.fields.length);
}

const LONG = /^(code|message|text|prompt|html|expression|content|query|script|system|body|sql|question|input|document)$/;

/** Whether a text is likely to have more than a line. @param {Field} field */
export function isLong(field) {
  return field.format === 'textarea' || LONG.test(field.name);
}

/** Whether a text is likely to be a file. @param {Field} field */
export function isFileField(field) {
  return ['file', 'binary', 'path', 'file-path'].includes(field.format);
}
