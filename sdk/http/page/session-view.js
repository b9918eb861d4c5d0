// @ts-check
/** One session: what is known of it, its calls, how far it is, and what it prints. */

import { bytes, clock, cores, count, NOTHING, shortId, span, title } from './format.js';
import { Logs } from './logs.js';
import { isAlive, isOver, stateWord, tone } from './phases.js';
import { progressOf } from './progress.js';
import { tryRoute } from './route.js';
import { gpuFacts, left } from './rowtexts.js';
import { Timeline } from './timeline.js';
import { html, inline, Progress, State, useServices, useStore } from './ui.js';

/** @typedef {import('./types.js').Row} Row */

/** @param {{ id: string }} props */
export function SessionView({ id }) {
  const store = useStore();
  const row = store.model.find(id);
  if (!row) return html`<${Unknown} id=${id} />`;
  const progress = progressOf(row.progress);
  return html`<a class="back" href="#/">← All sessions</a>
    <${Title} row=${row} mayRun=${store.model.may('run')} />
    ${isOver(row.state) && html`<p class="over"><strong>Why it ended:</strong> ${inline(row.reason || stateWord(row.state))}</p>`}
    <${Facts} row=${row} now=${store.now()} />
    ${progress && !isOver(row.state) && html`<section class="panel" aria-labelledby="progress-title">
      <div class="panel-head"><h2 id="progress-title">Progress</h2></div>
      <${Progress} ...${progress} label="Progress of the running call" /></section>`}
    <${Timeline} title="Calls" session=${row.id} />
    <${Logs} key=${row.id} id=${row.id} over=${isOver(row.state)} />`;
}

/** @param {{ id: string }} props */
function Unknown({ id }) {
  return html`<a class="back" href="#/">← All sessions</a>
    <section class="empty"><h1>No session ${shortId(id)} here</h1>
      <p>It may have ended a while ago, or belong to another key.</p><p><a href="#/">See the sessions that are warm</a></p></section>`;
}

/** @param {{ row: Row, mayRun: boolean }} props */
function Title({ row, mayRun }) {
  const { ending } = useServices();
  const alive = isAlive(row);
  return html`<div class="title">
    <h1><bdi>${row.app}</bdi> <bdi class="id">${title(row)}</bdi></h1><${State} tone=${tone(row.state)}>${stateWord(row.state)}<//>
    ${mayRun && html`<div class="buttons">
      ${alive ? html`<a class="button primary" href=${tryRoute(row.app, { session: row.id })}>Try it</a>
        <button onClick=${() => ending.keepAlive(row)}>Keep alive</button>
        <button onClick=${() => ending.ask(row)}>End</button>`
    : html`<a class="button" href=${tryRoute(row.app, { session: 'new' })}>Start another</a>`}
    </div>`}
  </div>`;
}

/** @param {{ row: Row, now: number }} props */
function Facts({ row, now }) {
  const running = row.running ? `${row.running.function}, for ${span(now - row.running.since)}` : 'nothing';
  const over = isOver(row.state);
  /** @type {[string, any][]} */
  const facts = [
    ['Id', html`<code class="whole">${row.id}</code>`],
    ['Age', `${span(now - row.created)}, since ${clock(row.created)}`],
    ['Calls', count(row.calls)],
    ...(over ? [] : /** @type {[string, any][]} */ ([
      ['Running', running], ['Queue', count(row.queued)],
      ['Idle time left', row.idle_timeout === null ? 'it stays' : `${left(row, now).left} of ${span(row.idle_timeout)}`],
      ['Memory', bytes(row.memory)], ['CPU', cores(row.cpu)],
    ])),
    ['Last call', row.last_call ? `${span(now - row.last_call)} ago` : 'none yet'],
    ['Process', row.pid ? `${row.pid}, by ${row.origin}` : NOTHING],
  ];
  if (!over) facts.push(...gpuFacts(row.gpu, now));
  if (row.lives_until && !over) facts.push(['Ends at the latest in', span(row.lives_until - now)]);
  const labels = Object.entries(row.labels ?? {});
  const label = (/** @type {[string, string]} */ [name, value]) =>
    html`<span class="label" key=${name}><bdi>${name}</bdi>=<bdi>${value}</bdi></span>`;
  if (labels.length) facts.push(['Labels', labels.map(label)]);
  return html`<dl class="facts num">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
