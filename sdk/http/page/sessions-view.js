// @ts-check
/** All sessions: the figures, the table, the calls as they pass, cold against warm, and what ended. */

import { Empty } from './empty.js';
import { Ended } from './ended.js';
import { bytes, cores, count, plural, rate } from './format.js';
import { totals } from './model.js';
import { SessionTable } from './session-table.js';
import { Timeline } from './timeline.js';
import { byValue, html, useEffect, useRef, useState, useStore } from './ui.js';
import { Warmth } from './warmth.js';

/** @typedef {import('./model.js').Model} Model */

export function SessionsView() {
  const store = useStore();
  const { model } = store;
  const [filter, choose] = useState('');
  const some = model.sessions.size > 0;
  const calls = model.calls.length > 0 || some;
  return html`<h1 class="hidden">Sessions</h1>
    <${Figures} model=${model} now=${store.now()} />
    ${some ? html`<section aria-labelledby="sessions-title" class="panel">
        <div class="panel-head"><h2 id="sessions-title">Sessions</h2><${Filter} filter=${filter} choose=${choose} /></div>
        <${SessionTable} filter=${filter} clear=${() => choose('')} />
      </section>` : html`<${Empty} mayRun=${model.may('run')} seesAll=${model.may('admin')} />`}
    ${calls && html`<${Timeline} title="Calls" session="" />`}
    ${calls && html`<${Warmth} />`}
    <${Ended} rows=${model.ended} now=${store.now()} />`;
}

/** @param {{ model: Model, now: number }} props */
function Figures({ model, now }) {
  const sums = totals(model, now);
  const most = model.daemon?.max_sessions;
  const figures = [
    ['Sessions', count(sums.sessions), most ? `of ${count(most)}` : ''],
    ['Running', count(sums.running), ''],
    ['Queued', count(sums.queued), ''],
    ['Calls', rate(sums.rate), 'per second'],
    ['Memory', bytes(sums.memory), ''],
    ['CPU', cores(sums.cpu), 'of a core'],
  ];
  return html`<dl class="figures" aria-label=${plural(sums.sessions, 'session')}>
    ${figures.map(([label, value, beside]) => html`<div key=${label}><dt>${label}</dt>
      <dd class="num">${value} <small>${beside}</small></dd></div>`)}
  </dl>`;
}

/** @param {{ filter: string, choose: (filter: string) => void }} props */
function Filter({ filter, choose }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    const focus = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== '/' || isTyping(event.target)) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener('keydown', focus);
    return () => document.removeEventListener('keydown', focus);
  }, []);
  const leave = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== 'Escape') return;
    choose('');
    input.current?.blur();
  };
  return html`<div class="filter">
    <input ref=${input} type="search" aria-label="Filter sessions" placeholder="Filter" value=${filter} onKeyDown=${leave}
      onInput=${byValue(choose)} />
    <kbd aria-hidden="true">/</kbd></div>`;
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
