// @ts-check
/** A value as a form and as JSON: both show the same, and either can be edited. */

import { FieldView } from './field.js';
import { fits } from './formvalue.js';
import { takesNothing } from './schema.js';
import { byValue, html, Segmented, useRef, useState } from './ui.js';

/**
 * @typedef {import('./schema.js').Field} Field
 * @typedef {(input: { value: any, problem: string }) => void} OnChange
 */

/** @param {{ field: Field, value: any, id: string, title: string, onChange: OnChange }} props */
export function InputForm({ field, value, id, title, onChange }) {
  const [asJson, show] = useState(false);
  const shape = fits(field, value);
  const json = asJson || !shape;
  const filled = (/** @type {any} */ next) => onChange({ value: next, problem: '' });
  return html`<div class="input-form">
    <div class="form-head"><h2>${title}</h2>
      <${Segmented} label=${`${title} as`} options=${[[false, 'Form'], [true, 'JSON']]} chosen=${json} choose=${show}
        disabled=${(/** @type {boolean} */ each) => !each && !shape} /></div>
    ${!shape && html`<p class="muted">The form cannot show this value; its fields are of another kind.</p>`}
    ${json ? html`<${JsonText} id=${id} title=${title} value=${value} onChange=${onChange} />`
    : takesNothing(field) ? html`<p class="muted">It takes nothing.</p>`
    : html`<${FieldView} field=${field} value=${value} id=${id} top=${true} onChange=${filled} />`}
  </div>`;
}

/** @param {any} value */
function textOf(value) {
  return value === undefined ? '' : JSON.stringify(value, null, 2);
}

/**
 * What is typed stays as it is typed while it means the value.
 * @param {{ id: string, title: string, value: any, onChange: OnChange }} props
 */
function JsonText({ id, title, value, onChange }) {
  const typed = useRef({ text: textOf(value), of: value });
  const [problem, tell] = useState('');
  if (typed.current.of !== value) typed.current = { text: textOf(value), of: value };
  const type = (/** @type {string} */ text) => {
    const read = parsed(text);
    const next = read.problem ? value : read.value;
    typed.current = { text, of: next };
    tell(read.problem);
    onChange({ value: next, problem: read.problem });
  };
  return html`<textarea class="json" id=${id} aria-label=${`${title} as JSON`} spellcheck=${false}
      aria-invalid=${problem ? 'true' : undefined} aria-describedby=${problem ? `${id}-problem` : undefined}
      value=${typed.current.text} onInput=${byValue(type)}></textarea>
    ${problem && html`<p class="problem" id=${`${id}-problem`} role="alert">${problem}</p>`}`;
}

/** @param {string} text */
function parsed(text) {
  if (!text.trim()) return { value: undefined, problem: '' };
  try {
    return { value: JSON.parse(text), problem: '' };
  } catch (error) {
    return { value: undefined, problem: `This is not JSON yet: ${error instanceof Error ? error.message : ''}` };
  }
}
