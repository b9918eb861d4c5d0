// @ts-check
/** Calls a function: the form, the session, the button, and the runs so far. */

import { InputForm } from './input-form.js';
import { RunCard } from './run-card.js';
import { Runner } from './runner.js';
import { tryRoute } from './route.js';
import { isFinal } from './runstate.js';
import { initial } from './formvalue.js';
import { fieldOf } from './schema.js';
import { SessionChoice, sessionOf } from './session-choice.js';
import { html, useEffect, useRef, useServices, useState, useStore } from './ui.js';

/**
 * @typedef {import('./types.js').AppDescription} AppDescription
 * @typedef {import('./types.js').AppFunction} AppFunction
 * @typedef {import('./session-choice.js').Choice} Choice
 * @typedef {{ value: any, problem: string }} Input
 */

/** @param {{ description: AppDescription, function: AppFunction, wanted: string }} props */
export function Caller({ description, function: called, wanted }) {
  const store = useStore();
  const { app } = description;
  const field = useOnce(called.input_schema, () => fieldOf(called.input_schema ?? {}, 'input', called.input_schema?.default === undefined));
  const [inputs, setInputs] = useState(/** @type {Record<string, Input>} */ ({}));
  const input = inputs[called.name] ?? { value: initial(field), problem: '' };
  const [choice, choose] = useState(() => firstChoice(wanted));
  const { runs, runner } = useRuns(app, (id) => choose((before) => ({ ...before, kind: 'existing', id })));
  store.tried = tryRoute(app, { function: called.name });
  const session = sessionOf(choice, store.model, app);
  const busy = runs.length > 0 && !isFinal(runs[0]);
  const blocked = Boolean(input.problem || (session.kind === 'new' && choice.problem));
  const change = (/** @type {Input} */ next) => setInputs({ ...inputs, [called.name]: next });
  const run = () => blocked || busy || store.uploads || runner.run({ app, function: called.name, input: input.value, ...session.body });
  const onKey = (/** @type {KeyboardEvent} */ event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && run();
  return html`<div class="try">
    <form class="panel call" novalidate onKeyDown=${onKey} onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); run(); }}>
      <${InputForm} key=${called.name} field=${field} value=${input.value} id="input" title="Input" onChange=${change} />
      <${SessionChoice} app=${app} schema=${description.setup_schema} choice=${choice} choose=${choose} />
      <div class="buttons"><button class="primary" disabled=${blocked || busy || store.uploads > 0}>
        ${store.uploads ? 'Uploading…' : busy ? 'Running…' : 'Run'}</button>
        <span class="muted hint"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span></div>
    </form>
    <div class="runs" role="region" aria-label="Runs">
      ${runs.map((each) => html`<${RunCard} key=${each.started} run=${each} cancel=${() => runner.cancel(each)} />`)}
      ${!runs.length && html`<p class="none">What it gives appears here, part by part as it comes.</p>`}
    </div>
  </div>`;
}

/** @param {string} wanted by the address: "new", a session's id, or nothing @returns {Choice} */
function firstChoice(wanted) {
  const id = wanted === 'new' ? '' : wanted;
  return { kind: id ? 'existing' : 'new', id, timeout: 300, setup: undefined, problem: '' };
}

/**
 * A value that is made anew only when its source is another.
 * @template T
 * @param {unknown} source
 * @param {() => T} make
 * @returns {T}
 */
function useOnce(source, make) {
  const kept = useRef(/** @type {{ source: unknown, value: T } | null} */ (null));
  if (kept.current?.source !== source || !kept.current) kept.current = { source, value: make() };
  return kept.current.value;
}

/** The runs of an app, which go on while nobody looks. @param {string} app @param {(session: string) => void} onNewSession */
function useRuns(app, onNewSession) {
  const { store, notices } = useServices();
  const runner = store.runners.get(app) ?? new Runner(store, notices);
  store.runners.set(app, runner);
  const [runs, show] = useState(runner.runs);
  useEffect(() => runner.watch(show, onNewSession), [runner]);
  return { runs, runner };
}
