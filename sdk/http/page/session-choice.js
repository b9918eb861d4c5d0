// @ts-check
/** Which session a run goes to: a new one, one that is there, or the shared pool. */

import { isolated, span, title } from './format.js';
import { InputForm } from './input-form.js';
import { isAlive, isSession, stateWord } from './phases.js';
import { fieldOf } from './schema.js';
import { byValue, html, useState, useStore } from './ui.js';

/**
 * @typedef {import('./model.js').Model} Model
 * @typedef {import('./types.js').Row} Row
 * @typedef {{ kind: 'new' | 'existing' | 'pool', id: string, timeout: number, setup: any, problem: string }} Choice
 */

const TIMEOUTS = [60, 300, 900, 3600];

/** @param {Model} model @param {string} app @returns {Row[]} newest first */
function sessionsOf(model, app) {
  const rows = [...model.sessions.values()].filter((row) => row.app === app && isSession(row) && isAlive(row));
  return rows.sort((a, b) => b.created - a.created);
}

/**
 * What the choice comes to now: a session that has ended in the meantime gives way to a new one.
 * @param {Choice} choice
 * @param {Model} model
 * @param {string} app
 */
export function sessionOf(choice, model, app) {
  const there = sessionsOf(model, app);
  // One that was just made may not have been told of yet; one that ended has been.
  const gone = choice.id && model.ended.some((row) => row.id === choice.id);
  const id = choice.id && !gone ? choice.id : there[0]?.id ?? '';
  const kind = choice.kind === 'existing' && (!id || gone) ? 'new' : choice.kind;
  if (kind === 'pool') return { kind, id, gone, body: {} };
  if (kind === 'existing') return { kind, id, gone, body: { session: id } };
  const setup = choice.setup === undefined || choice.setup === null ? {} : { setup: choice.setup };
  return { kind, id, gone, body: { session: 'new', session_timeout: choice.timeout, ...setup } };
}

/** @param {{ app: string, schema: any, choice: Choice, choose: (choice: Choice) => void }} props */
export function SessionChoice({ app, schema, choice, choose }) {
  const { model } = useStore();
  const { kind, id, gone } = sessionOf(choice, model, app);
  const there = sessionsOf(model, app);
  const take = (/** @type {Choice['kind']} */ value) => choose({ ...choice, kind: value, id: gone ? '' : choice.id });
  const pick = (/** @type {string} */ next) => choose({ ...choice, kind: 'existing', id: next });
  const none = !there.length && !id;
  return html`<fieldset class="session-choice"><legend>Session</legend>
    ${gone && choice.kind === 'existing' && html`<p class="muted" role="status">The session chosen before has ended.</p>`}
    <div class="choice"><${Radio} value="new" words="New" now=${kind} take=${take} />
      ${kind === 'new' && html`<${Timeout} choice=${choice} choose=${choose} />`}</div>
    <div class="choice"><${Radio} value="existing" words="Existing" now=${kind} take=${take} disabled=${none} />
      ${kind === 'existing' && html`<${Existing} there=${there} id=${id} pick=${pick} />`}</div>
    <div class="choice"><${Radio} value="pool" words="Shared pool" now=${kind} take=${take} />
      ${kind === 'pool' && html`<span class="muted">any warm worker; it keeps nothing for you</span>`}</div>
    ${kind === 'new' && html`<${Setup} schema=${schema} choice=${choice} choose=${choose} />`}
  </fieldset>`;
}

/** @param {{ value: Choice['kind'], words: string, now: string, take: (kind: Choice['kind']) => void, disabled?: boolean }} props */
function Radio({ value, words, now, take, disabled = false }) {
  return html`<label class="check"><input type="radio" name="session" value=${value} checked=${now === value} disabled=${disabled}
    onChange=${() => take(value)} /> ${words}</label>`;
}

/** @param {{ choice: Choice, choose: (choice: Choice) => void }} props */
function Timeout({ choice, choose }) {
  return html`<span class="beside"><label for="timeout">ends when idle for</label>
    <select id="timeout" value=${choice.timeout} onChange=${byValue((seconds) => choose({ ...choice, timeout: Number(seconds) }))}>
      ${TIMEOUTS.map((seconds) => html`<option key=${seconds} value=${seconds}>${span(seconds)}</option>`)}</select></span>`;
}

/** @param {{ there: Row[], id: string, pick: (id: string) => void }} props */
function Existing({ there, id, pick }) {
  const known = there.some((row) => row.id === id);
  return html`<select class="beside" aria-label="Existing session" value=${id} onChange=${byValue(pick)}>
    ${!known && html`<option key=${id} value=${id}>${title({ id, name: null })}</option>`}
    ${there.map((row) => html`<option key=${row.id} value=${row.id}>${isolated(title(row))} (${stateWord(row.state)})</option>`)}</select>`;
}

/** @param {{ schema: any, choice: Choice, choose: (choice: Choice) => void }} props */
function Setup({ schema, choice, choose }) {
  const [field] = useState(() => fieldOf(schema ?? {}, 'setup', false));
  if (schema === null || schema === undefined) return null;
  const change = (/** @type {{ value: any, problem: string }} */ { value, problem }) => choose({ ...choice, setup: value, problem });
  return html`<details class="setup"><summary>Setup <span class="muted">optional</span></summary>
    <${InputForm} field=${field} value=${choice.setup} id="setup" title="Setup" onChange=${change} /></details>`;
}
