// @ts-check
/** An object with names of one's own: a line for each, with its value. */

import { anyOf, isPlain, typedAs } from './formvalue.js';
import { byValue, html, useState } from './ui.js';

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
  const set = (/** @type {number} */ at, /** @type {Partial<Entry>} */ part) =>
    change(entries.map((each, index) => (index === at ? { ...each, ...part } : each)));
  const remove = (/** @type {number} */ at) => change(entries.filter((_each, index) => index !== at));
  return html`<div class="map">
    ${entries.map((entry, index) => html`<${Line} key=${index} entry=${entry} place=${index + 1}
      set=${(/** @type {Partial<Entry>} */ part) => set(index, part)} remove=${() => remove(index)} />`)}
    <button type="button" class="small" id=${id} onClick=${() => change([...entries, { name: '', text: '' }])}>Add a field</button>
  </div>`;
}

/** @param {{ entry: Entry, place: number, set: (part: Partial<Entry>) => void, remove: () => void }} props */
function Line({ entry, place, set, remove }) {
  const called = entry.name || `field ${place}`;
  return html`<div class="map-line">
    <input aria-label=${`Name of field ${place}`} placeholder="name" autocomplete="off" spellcheck=${false} value=${entry.name}
      onInput=${byValue((name) => set({ name }))} />
    <textarea rows="1" aria-label=${`Value of ${called}`} placeholder="a text, or JSON" spellcheck=${false} value=${entry.text}
      onInput=${byValue((text) => set({ text }))}></textarea>
    <button type="button" class="small" aria-label=${`Remove ${called}`} onClick=${remove}>Remove</button></div>`;
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
