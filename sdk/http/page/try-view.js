// @ts-check
/** Try an app: choose it, fill in what it takes, and watch what comes. */

import { Caller } from './caller.js';
import { tryRoute } from './route.js';
import { byValue, html, inline, Prose, useEffect, useServices, useState, useStore } from './ui.js';

/**
 * @typedef {import('./types.js').AppDescription} AppDescription
 * @typedef {import('./types.js').AppFunction} AppFunction
 */

/** @param {{ app: string, query: Record<string, string> }} props */
export function TryView({ app, query }) {
  const store = useStore();
  const apps = useAsked(() => store.api.apps(), [store.api], store.model.link === 'live');
  if (!store.model.may('run')) return html`<${MayNot} />`;
  const names = apps.value?.map((each) => each.name).sort() ?? [];
  const chosen = app || (names.includes('counter') ? 'counter' : names[0] ?? '');
  return html`<div class="title"><h1>Try it</h1></div>
    ${apps.error && html`<${Failed} asked=${apps} />`}
    ${chosen && html`<${TryApp} key=${chosen} app=${chosen} names=${[...new Set([chosen, ...names])].sort()} query=${query} />`}`;
}

function MayNot() {
  return html`<section class="empty"><h1>This key may only look</h1>
    <p>To run apps, sign in with a key of the scope <code>run</code> or <code>admin</code>.</p></section>`;
}

/**
 * What a request brings: its value, or why there is none.  What was asked in vain is asked again once the link is live again.
 * @template T
 * @param {() => Promise<T>} ask
 * @param {unknown[]} inputs
 * @param {boolean} live
 * @returns {{ value: T | null, error: string, again: () => void }}
 */
function useAsked(ask, inputs, live) {
  const [told, tell] = useState(/** @type {{ value: T | null, error: string }} */ ({ value: null, error: '' }));
  const [count, setCount] = useState(0);
  useEffect(() => {
    let current = true;
    ask().then(
      (value) => current && tell({ value, error: '' }),
      (error) => current && tell({ value: null, error: error.message }),
    );
    return () => {
      current = false;
    };
  }, [...inputs, count]);
  useEffect(() => {
    if (live && told.error) setCount((before) => before + 1);
  }, [live]);
  return { ...told, again: () => setCount((before) => before + 1) };
}

/** @param {{ asked: { error: string, again: () => void } }} props */
function Failed({ asked }) {
  return html`<p class="problem" role="alert">${inline(asked.error)}${' '}
    <button class="plain" onClick=${asked.again}>Ask again</button></p>`;
}

/** @param {{ app: string, names: string[], query: Record<string, string> }} props */
function TryApp({ app, names, query }) {
  const { store } = useServices();
  const told = useAsked(() => store.api.describe(app), [store.api, app], store.model.link === 'live');
  const [name, choose] = useState(query.function ?? '');
  const description = told.value;
  const chosen = description ? functionOf(description, name) : null;
  return html`<div class="pickers">
      <div class="field"><label for="app">App</label>
        <select id="app" value=${app} onChange=${byValue((next) => (location.hash = tryRoute(next)))}>
          ${names.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></div>
      ${description && html`<div class="field"><label for="function">Function</label>
        <select id="function" value=${chosen?.name} onChange=${byValue(choose)}>
          ${description.functions.map((each) => html`<option key=${each.name} value=${each.name}>
            ${each.name}${each.streams ? ' (streams)' : ''}</option>`)}</select></div>`}
    </div>
    ${told.error && html`<${Failed} asked=${told} />`}
    ${!description && !told.error && html`<p class="waiting" role="status">Asking ${app} what it takes…</p>`}
    ${description && chosen && html`<div class="about"><${Prose} text=${description.doc || description.summary} />
        ${chosen.doc && chosen.doc !== description.doc && html`<div class="about-function">
          <h2><code>${chosen.name}</code></h2><${Prose} text=${chosen.doc} /></div>`}</div>
      <${Caller} description=${description} function=${chosen} wanted=${query.session ?? ''} />`}`;
}

/** @param {AppDescription} description @param {string} name @returns {AppFunction | null} */
function functionOf({ functions, default_function: usual }, name) {
  const named = (/** @type {string | null} */ wanted) => functions.find((each) => each.name === wanted);
  return named(name) ?? named(usual) ?? functions[0] ?? null;
}

