// @ts-check
/** A text; any text may be a file, which is uploaded and named by its address. */

import { described, hint } from './field.js';
import { bytes } from './format.js';
import { isFileField, isLong } from './schema.js';
import { byValue, html, useRef, useServices, useState } from './ui.js';

/** @typedef {import('./schema.js').Field} Field */

/** @type {Record<string, string>} */
const TYPES = { email: 'email', uri: 'url', url: 'url', date: 'date', time: 'time', password: 'password' };

/** @param {{ field: Field, value: any, id: string, onChange: (value: any) => void }} props */
export function TextField({ field, value, id, onChange }) {
  const { store, notices } = useServices();
  const picker = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [told, tell] = useState(/** @type {any} */ (''));
  const upload = async (/** @type {File | undefined} */ file) => {
    if (!file) return;
    tell(html`Uploading <bdi>${file.name}</bdi>, ${bytes(file.size)}…`);
    try {
      onChange(await store.upload(file));
      tell(html`<bdi>${file.name}</bdi>, ${bytes(file.size)}`);
    } catch (error) {
      tell('');
      notices.fail(error);
    }
  };
  return html`<div class="text-field">
    <${Typed} field=${field} value=${value} id=${id} onChange=${onChange} />
    <button type="button" class=${isFileField(field) ? 'small' : 'small quiet'} aria-label=${`File… for ${field.label}`}
      title="Upload a file: the app gets its path" onClick=${() => picker.current?.click()}>File…</button>
    <input ref=${picker} type="file" hidden aria-label=${`File for ${field.label}`}
      onChange=${(/** @type {any} */ event) => upload(event.target.files[0])} />
  </div>
  ${told && value !== undefined && html`<p class="help" role="status">${told}</p>`}`;
}

/** @param {{ field: Field, value: any, id: string, onChange: (value: any) => void }} props */
function Typed({ field, value, id, onChange }) {
  const type = byValue((typed) => onChange(typed === '' && !field.required ? undefined : typed));
  const shared = { id, value: value ?? '', placeholder: hint(field), 'aria-describedby': described(field, id), onInput: type };
  if (isLong(field)) return html`<textarea ...${shared} rows="3" spellcheck=${false}></textarea>`;
  return html`<input ...${shared} type=${TYPES[field.format] ?? 'text'} autocomplete="off" spellcheck=${false} />`;
}
