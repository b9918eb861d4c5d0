// @ts-check
/** Values of a form: what a field begins with, and what is typed into one. */

import { takesNothing } from './schema.js';

/** @typedef {import('./schema.js').Field} Field */

/**
 * What is sent when nothing is filled in: required things, constants; defaults are the server's.
 * @param {Field} field
 * @returns {any} undefined where nothing is to be sent
 */
export function initial(field) {
  if (!field.required) return undefined;
  if (field.kind === 'const') return field.options[0];
  if (takesNothing(field)) return field.kind === 'null' ? null : {};
  if (field.kind === 'object') return initialObject(field);
  if (field.kind === 'map') return {};
  if (field.kind === 'array') return [];
  if (field.kind === 'union') return initial({ ...field.variants[0], required: true });
  if (field.kind === 'enum' && field.fallback === undefined) return field.options[0];
  if (field.kind === 'boolean' && field.fallback === undefined) return false;
  return field.fallback;
}

/** @param {Field} field */
function initialObject(field) {
  const made = /** @type {Record<string, any>} */ ({});
  for (const each of field.fields) {
    const value = initial(each);
    if (value !== undefined) made[each.name] = value;
  }
  return made;
}

/** What a new item of a list is. @param {Field} item */
export function newItem(item) {
  const value = initial({ ...item, required: true });
  if (value !== undefined) return value;
  return item.kind === 'text' ? '' : item.kind === 'number' || item.kind === 'integer' ? 0 : null;
}

/**
 * The same object with a key set, or without it where the value is undefined.
 * @param {any} object
 * @param {string} name
 * @param {any} value
 */
export function withKey(object, name, value) {
  const { [name]: _before, ...others } = isPlain(object) ? object : {};
  if (value === undefined) return others;
  return isPlain(object) && name in object ? { ...object, [name]: value } : { ...others, [name]: value };
}

/** @param {any[]} list @param {number} index @param {any} value undefined removes it */
export function withItem(list, index, value) {
  return value === undefined ? list.filter((_each, at) => at !== index) : list.map((each, at) => (at === index ? value : each));
}

/** @param {any} value @returns {value is Record<string, any>} */
export function isPlain(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A number as it was typed; what is none stays a text, for the server to say so. @param {string} typed */
export function numberOf(typed) {
  const text = typed.trim();
  if (!text) return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : text;
}

/** JSON where it is JSON, else the text itself; nothing is undefined. @param {string} typed */
export function anyOf(typed) {
  if (!typed.trim()) return undefined;
  try {
    return JSON.parse(typed);
  } catch {
    return typed;
  }
}

/** How `anyOf` would have been given a value. @param {any} value */
export function typedAs(value) {
  if (value === undefined) return '';
  if (typeof value === 'string' && anyOf(value) === value) return value;
  return JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ');
}

/**
 * Whether a value can be shown by a field; one that cannot is edited as JSON.
 * @param {Field} field
 * @param {any} value
 * @returns {boolean}
 */
export function fits(field, value) {
  if (value === undefined || (value === null && (field.nullable || field.fallback === null))) return true;
  switch (field.kind) {
    case 'text': return typeof value === 'string';
    case 'number': case 'integer': return typeof value === 'number' || typeof value === 'string';
    case 'boolean': return typeof value === 'boolean';
    case 'enum': case 'const': return field.options.some((each) => JSON.stringify(each) === JSON.stringify(value));
    case 'object': return isPlain(value) && field.fields.every((each) => fits(each, value[each.name]));
    case 'map': return isPlain(value);
    case 'array': return Array.isArray(value) && value.every((each) => fits(/** @type {Field} */ (field.item), each));
    case 'union': return field.variants.some((each) => fits(each, value));
    case 'null': return value === null;
    default: return true;
  }
}

/** The alternative that a value is one of. @param {Field} field @param {any} value */
export function variantOf(field, value) {
  const at = field.variants.findIndex((each) => value !== undefined && fits(each, value));
  return at < 0 ? 0 : at;
}
