// @ts-check
/** One run: how it goes, and what it gives. */

import { bytes, duration, shortId } from './format.js';
import { filesIn, isAddress, pretty, readable, shownAs } from './outputs.js';
import { progressOf } from './progress.js';
import { sessionRoute } from './route.js';
import { isFinal, isRepeatedByStream } from './runstate.js';
import { html, inline, memo, Progress, State, useEffect, useServices, useState } from './ui.js';

/**
 * @typedef {import('./runstate.js').Run} Run
 * @typedef {import('./outputs.js').FileOutput} FileOutput
 */

const TICK_MS = 100;
/** @type {Record<Run['state'], [string, string]>} */
const STATES = {
  sent: ['starting', 'sent'], queued: ['starting', 'waits'], starting: ['starting', 'starting'], running: ['busy', 'running'],
  cancelling: ['quiet', 'cancelling'], completed: ['idle', 'done'], failed: ['died', 'failed'], cancelled: ['quiet', 'cancelled'],
};

export const RunCard = memo(Card, (before, after) => before.run === after.run);

/** @param {{ run: Run, cancel: () => void }} props */
function Card({ run, cancel }) {
  const [tone, word] = STATES[run.state];
  const over = isFinal(run);
  const progress = over ? null : progressOf(run.progress);
  return html`<article class="panel run" aria-label=${`Run of ${run.function}`}>
    <header><h2><code>${run.function}</code></h2><${State} tone=${tone}>${word}<//><${Elapsed} run=${run} />
      ${run.session && html`<a class="id" href=${sessionRoute(run.session)}>${shortId(run.session)}</a>`}
      ${!over && html`<button class="small" disabled=${!run.task || run.state === 'cancelling'} onClick=${cancel}>Cancel</button>`}</header>
    ${run.input !== undefined && html`<details class="sent"><summary>Input</summary><pre>${pretty(run.input)}</pre></details>`}
    ${progress && html`<${Progress} ...${progress} label="Progress" />`}
    ${run.pieces && run.text && html`<div class="text">${readable(run.pieces, run.output)}</div>`}
    ${run.parts.length > 0 && html`<${Parts} run=${run} />`}
    ${run.error && run.state !== 'cancelled' && html`<p class="problem" role="alert">
      ${run.code && run.code !== 'APP_ERROR' && html`<strong>${run.code}</strong>${' '}`}${inline(run.error)}</p>`}
    ${run.state === 'failed' && run.task && html`<${Traceback} task=${run.task} />`}
    ${run.state === 'completed' && html`<${Output} run=${run} />`}
  </article>`;
}

/** @param {{ run: Run }} props */
function Elapsed({ run }) {
  const [, turn] = useState(0);
  const over = run.ended !== null;
  useEffect(() => {
    if (over) return undefined;
    const timer = setInterval(() => turn((count) => count + 1), TICK_MS);
    return () => clearInterval(timer);
  }, [over]);
  return html`<span class="num muted elapsed">${duration((run.ended ?? Date.now() / 1000) - run.started)}</span>`;
}

/** Asked for when it is opened: what the session printed last, and the traceback of the error. @param {{ task: string }} props */
function Traceback({ task }) {
  const { store } = useServices();
  const [told, tell] = useState('');
  const ask = () => store.api.logs(task).then(
    (pieces) => tell(pieces.map((each) => each.content.trimEnd()).join('\n') || 'Nothing was kept of it.'),
    (error) => tell(error.message),
  );
  const onToggle = (/** @type {any} */ event) => event.currentTarget.open && void ask();
  return html`<details class="sent" onToggle=${onToggle}><summary>Traceback</summary>
    <pre>${told || 'Asking for it…'}</pre></details>`;
}

/** @param {{ run: Run }} props */
function Parts({ run }) {
  const others = run.count - run.parts.length;
  const note = !run.text && others > 0 ? html`<p class="muted">${others} earlier parts are not shown.</p>` : '';
  const last = run.parts[run.parts.length - 1];
  return html`${note}<pre class="parts">${run.parts.map((part) => JSON.stringify(part)).join('\n')}</pre>
    ${!isFinal(run) && html`<${Files} value=${last} />`}`;
}

/** @param {{ run: Run }} props */
function Output({ run }) {
  const { output } = run;
  const files = html`<${Files} value=${output} />`;
  if (isRepeatedByStream(run)) return files;
  if (output === null || output === undefined) return html`<p class="muted">It gave nothing back.</p>`;
  return html`${files}<pre class="output">${typeof output === 'string' ? output : pretty(output)}</pre>`;
}

/** @param {{ value: any }} props */
function Files({ value }) {
  const files = filesIn(value);
  if (!files.length) return null;
  return html`<div class="files">${files.map((file) => html`<${OneFile} key=${file.uri} file=${file} />`)}</div>`;
}

/** @param {{ file: FileOutput }} props */
function OneFile({ file }) {
  const name = file.filename || 'file';
  const kind = shownAs(file);
  const about = html`<span class="muted num">${file.content_type}, ${bytes(file.size)}</span>`;
  if (!isAddress(file.uri)) {
    return html`<figure><figcaption><bdi>${name}</bdi>${' '}${about}${' '}<code>${file.uri}</code></figcaption></figure>`;
  }
  return html`<figure>
    ${kind === 'image' && html`<a href=${file.uri} target="_blank" rel="noreferrer"><img src=${file.uri} alt=${name} /></a>`}
    ${kind === 'audio' && html`<audio controls src=${file.uri} aria-label=${name}></audio>`}
    ${kind === 'video' && html`<video controls src=${file.uri} aria-label=${name}></video>`}
    <figcaption><a href=${file.uri} download=${name}><bdi>${name}</bdi></a>${' '}${about}</figcaption>
  </figure>`;
}
