// @ts-check
/** One field of a form, of each kind that a schema can ask for. */

import { MapField } from './map-field.js';
import { TextField } from './text-field.js';
import { anyOf, newItem, numberOf, typedAs, variantOf, withItem, withKey } from './formvalue.js';
import { takesNothing, variantWord } from './schema.js';
import { byValue, html, inline, Segmented, useState } from './ui.js';

/**
 * @typedef {import('./schema.js').Field} Field
 * @typedef {{ field: Field, value: any, id: string, top?: boolean, onChange: (value: any) => void }} Props
 */

/** @type {Partial<Record<import('./schema.js').Kind, (props: Props) => any>>} */
const VIEWS = {
  object: ObjectField, map: MapField, array: ArrayField, union: UnionField, boolean: BooleanField, enum: EnumField,
  number: NumberField, integer: NumberField, const: ConstField, any: AnyField, text: TextField,
};

/** @param {Props} props */
export function FieldView(props) {
  const { field, id, top } = props;
  const View = VIEWS[field.kind] ?? AnyField;
  if (field.kind === 'object' && top) return html`<${ObjectField} ...${props} />`;
  const grouped = ['object', 'map', 'array', 'union'].includes(field.kind);
  if (grouped) {
    return html`<fieldset class="field group"><legend class=${top ? 'hidden' : ''}>${field.label}${optional(field)}</legend>
      <${Description} field=${field} id=${id} /><${View} ...${props} /></fieldset>`;
  }
  if (field.kind === 'boolean') return html`<div class="field"><${View} ...${props} /><${Description} field=${field} id=${id} /></div>`;
  return html`<div class="field"><label for=${id} class=${top ? 'hidden' : ''}>${field.label}${optional(field)}</label>
    <${Description} field=${field} id=${id} /><${View} ...${props} /></div>`;
}

/** @param {Field} field */
function optional(field) {
  return field.required ? '' : html` <span class="muted optional">optional</span>`;
}

/** @param {{ field: Field, id: string }} props */
function Description({ field, id }) {
  return field.description ? html`<p class="help" id=${`${id}-help`}>${inline(field.description)}</p>` : null;
}

/** @param {Field} field @param {string} id */
export function described(field, id) {
  return field.description ? `${id}-help` : undefined;
}

/** What an empty field shows: the value that it has then. @param {Field} field */
export function hint(field) {
  if (field.fallback === undefined || field.fallback === null) return '';
  return typeof field.fallback === 'string' ? field.fallback : JSON.stringify(field.fallback);
}

/** @param {Props} props */
function ObjectField({ field, value, id, onChange }) {
  if (takesNothing(field)) return html`<p class="muted">It has no fields.</p>`;
  const set = (/** @type {string} */ name) => (/** @type {any} */ next) => onChange(emptied(withKey(value, name, next), field));
  return html`<div class="fields">${field.fields.map((each) => html`<${FieldView} key=${each.name} field=${each}
    id=${`${id}.${each.name}`} value=${value?.[each.name]} onChange=${set(each.name)} />`)}</div>`;
}

/** An optional object of which nothing is filled in is not sent. @param {any} object @param {Field} field */
function emptied(object, field) {
  return !field.required && Object.keys(object).length === 0 ? undefined : object;
}

/** @param {Props} props */
function NumberField({ field, value, id, onChange }) {
  const keys = field.kind === 'integer' ? 'numeric' : 'decimal';
  return html`<input id=${id} inputmode=${keys} autocomplete="off" class="num" value=${value ?? ''}
    placeholder=${hint(field)} aria-describedby=${described(field, id)} onInput=${byValue((typed) => onChange(numberOf(typed)))} />`;
}

/** @param {Props} props */
function BooleanField({ field, value, id, onChange }) {
  const shown = value ?? field.fallback;
  if (field.nullable || (!field.required && typeof field.fallback !== 'boolean')) {
    const known = value === undefined || value === null ? '' : String(value);
    return html`<label for=${id}>${field.label}${optional(field)}</label>
      <select id=${id} value=${known} onChange=${byValue((picked) => onChange(picked ? picked === 'true' : undefined))}>
        <option value="">as it is by default</option><option value="true">yes</option><option value="false">no</option></select>`;
  }
  return html`<label class="check"><input id=${id} type="checkbox" checked=${Boolean(shown)} aria-describedby=${described(field, id)}
    onChange=${(/** @type {any} */ event) => onChange(event.target.checked)} /> ${field.label}</label>`;
}

/** @param {Props} props */
function EnumField({ field, value, id, onChange }) {
  const at = field.options.findIndex((each) => JSON.stringify(each) === JSON.stringify(value));
  const word = hint(field) ? `default: ${hint(field)}` : 'not set';
  const shown = (/** @type {any} */ option) => (typeof option === 'string' ? option : JSON.stringify(option));
  return html`<select id=${id} value=${String(at)} aria-describedby=${described(field, id)}
      onChange=${byValue((picked) => onChange(picked === '-1' ? undefined : field.options[Number(picked)]))}>
    ${(!field.required || field.fallback !== undefined) && html`<option value="-1">${word}</option>`}
    ${field.options.map((each, index) => html`<option key=${index} value=${String(index)}>${shown(each)}</option>`)}</select>`;
}

/** @param {Props} props */
function ConstField({ field, id }) {
  return html`<input id=${id} readonly value=${typedAs(field.options[0])} />`;
}

/** @param {Props} props */
function AnyField({ field, value, id, onChange }) {
  const [typed, type] = useState({ text: typedAs(value), of: value });
  const text = JSON.stringify(typed.of) === JSON.stringify(value) ? typed.text : typedAs(value);
  const change = (/** @type {string} */ next) => {
    const of = anyOf(next);
    type({ text: next, of });
    onChange(of);
  };
  return html`<textarea id=${id} rows="1" spellcheck=${false} placeholder=${hint(field) || 'a text, or JSON'} value=${text}
    aria-describedby=${described(field, id)} onInput=${byValue(change)}></textarea>`;
}

/** @param {Props} props */
function ArrayField({ field, value, id, onChange }) {
  const item = /** @type {Field} */ (field.item);
  const items = Array.isArray(value) ? value : [];
  const set = (/** @type {number} */ index) => (/** @type {any} */ next) => onChange(withItem(items, index, next ?? newItem(item)));
  const remove = (/** @type {number} */ index) => onChange(withItem(items, index, undefined));
  const called = (/** @type {number} */ index) => `${field.label} ${index + 1}`;
  return html`<div class="list">
    ${items.map((each, index) => html`<div class="list-item" key=${index}>
      <${FieldView} field=${{ ...item, label: called(index) }} id=${`${id}.${index}`} value=${each} onChange=${set(index)} />
      <button type="button" class="small" aria-label=${`Remove ${called(index)}`} onClick=${() => remove(index)}>Remove</button></div>`)}
    <button type="button" class="small" onClick=${() => onChange([...items, newItem(item)])}>Add an item</button>
  </div>`;
}

/** @param {Props} props */
function UnionField({ field, value, id, onChange }) {
  const [picked, pick] = useState(variantOf(field, value));
  const at = value === undefined ? picked : variantOf(field, value);
  const variant = field.variants[at];
  const turn = (/** @type {number} */ next) => {
    pick(next);
    onChange(field.required ? newItem(field.variants[next]) : undefined);
  };
  const options = field.variants.map((each, index) => [index, variantWord(each)]);
  return html`<div class="union">
    <${Segmented} label=${`${field.label} is`} options=${options} chosen=${at} choose=${turn} />
    <${FieldView} key=${at} field=${{ ...variant, required: field.required }} id=${id} value=${value} top=${true}
      onChange=${onChange} /></div>`;
}
