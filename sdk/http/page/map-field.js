// @ts-check
/** An object with names of one's own: a line for each, with its value. */

import { anyOf, isPlain, typedAs } from './formvalue.js';
import { html, useState } from './ui.js';

/**
 * @typedef {import('./schema.js').Field} Field
 * @typedef {{ name: string, text: string }} Entry
 */

/** @param {{ field: Field, value: any, id: string, onChange: (value: any) => void }} props */
export function MapField({ field, value, id, onChange }) {
  const [kept, keep] = useState(() => entriesOf(value));
  const entries = same(objectOf(kept), value) ? kept : entriesOf(value);
  const change = (/** @type {Entry[]} */ next) => {
    keep(next);
    const object = objectOf(next);
    onChange(!field.required && !Object.keys(object).length ? undefined : object);
  };
  const set = (/** @type {number} */ at, /** @type {Partial<Entry>} */ part) => change(entries.map((each, index) => (index === at ? { ...each, ...part } : each)));
  return html`<div class="map">
    ${entries.map(({ name, text }, index) => html`<div class="map-line" key=${index}>
      <input aria-label=${`Name of field ${index + 1}`} placeholder="name" autocomplete="off" spellcheck="false" value=${name} onInput=${(/** @type {any} */ event) => set(index, { name: event.target.value })} />
      <textarea rows="1" aria-label=${`Value of ${name || `field ${index + 1}`}`} placeholder="a text, or JSON" spellcheck="false" value=${text} onInput=${(/** @type {any} */ event) => set(index, { text: event.target.value })}></textarea>
      <button type="button" class="small" aria-label=${`Remove ${name || `field ${index + 1}`}`} onClick=${() => change(entries.filter((_each, at) => at !== index))}>Remove</button></div>`)}
    <button type="button" class="small" id=${id} onClick=${() => change([...entries, { name: '', text: '' }])}>Add a field</button>
  </div>`;
}

/** @param {any} value @returns {Entry[]} */
function entriesOf(value) {
  return isPlain(value) ? Object.entries(value).map(([name, each]) => ({ name, text: typedAs(each) })) : [];
}

/** @param {Entry[]} entries @returns {Record<string, any>} */
function objectOf(entries) {
  return Object.fromEntries(entries.filter(({ name }) => name).map(({ name, text }) => [name, anyOf(text) ?? '']));
}

/** @param {any} a @param {any} b */
function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b ?? {});
}
