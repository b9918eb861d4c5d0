// @ts-check
/**
 * What a session prints, as it prints it.  Lines are put into the document directly, a batch a
 * frame: with thousands of them, comparing trees would cost more than drawing.
 */

import { partsOf } from './ansi.js';
import { LogLines, MAX_LINES } from './loglines.js';
import { html, useEffect, useRef, useServices, useState } from './ui.js';

const TAIL = 200;
const AT_END_PIXELS = 24;

/** That of a session which is over is all that it wrote. @param {{ id: string, over: boolean }} props */
export function Logs({ id, over }) {
  const { store } = useServices();
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [follow, setFollow] = useState(true);
  const [state, tell] = useState(/** @type {{ words: string, again: number }} */ ({ words: '', again: 0 }));
  const following = useRef(follow);
  following.current = follow;
  const wasOver = useRef(over);
  useEffect(() => {
    const stop = new AbortController();
    const place = /** @type {HTMLDivElement} */ (box.current);
    place.replaceChildren();
    const path = `sessions/${encodeURIComponent(id)}/logs?tail=${TAIL}&follow=${!wasOver.current}`;
    print(store.api.text(path, stop.signal), place, following)
      .then(() => 'The session has ended: this is the end of its log.', (error) => String(error.message ?? error))
      .then((words) => stop.signal.aborted || tell((before) => ({ ...before, words })));
    return () => stop.abort();
  }, [id, state.again]);
  const reached = useRef(0);
  const onScroll = () => {
    const place = /** @type {HTMLDivElement} */ (box.current);
    if (isAtEnd(place)) setFollow(true);
    else if (place.scrollTop < reached.current) setFollow(false);
    reached.current = place.scrollTop;
  };
  const readAgain = () => tell({ words: '', again: state.again + 1 });
  const toEnd = (/** @type {boolean} */ on) => {
    setFollow(on);
    if (on && box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  return html`<section class="panel logs" aria-labelledby="logs-title">
    <div class="panel-head"><h2 id="logs-title">Log</h2><span class="muted">the last ${MAX_LINES.toLocaleString('en-US')} lines</span>
      ${!over && html`<label class="check">
        <input type="checkbox" checked=${follow} onChange=${() => toEnd(!follow)} /> Follow</label>`}</div>
    <div class="log" ref=${box} role="log" aria-live="off" aria-labelledby="logs-title" tabindex="0" onScroll=${onScroll}></div>
    ${state.words && html`<p class="log-end" role="status">${state.words}${' '}
      ${!over && html`<button class="plain" onClick=${readAgain}>Read again</button>`}</p>`}
  </section>`;
}

/** @param {HTMLElement} box */
function isAtEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < AT_END_PIXELS;
}

/** @param {AsyncIterable<string>} texts @param {HTMLElement} box @param {{ current: boolean }} following */
async function print(texts, box, following) {
  const lines = new LogLines();
  let due = false;
  const flush = () => {
    due = false;
    show(box, lines.take(), following.current);
  };
  try {
    for await (const text of texts) {
      if (!lines.push(text) || due) continue;
      due = true;
      requestAnimationFrame(flush);
    }
  } finally {
    lines.end();
    flush();
  }
}

/** @param {HTMLElement} box @param {string[]} lines @param {boolean} follow */
function show(box, lines, follow) {
  if (!lines.length) return;
  const fresh = document.createDocumentFragment();
  for (const line of lines) fresh.append(elementOf(line));
  const surplus = box.childElementCount + lines.length - MAX_LINES;
  for (let count = 0; count < surplus; count += 1) box.firstElementChild?.remove();
  box.append(fresh);
  if (follow) box.scrollTop = box.scrollHeight;
}

/** @param {string} line */
function elementOf(line) {
  const element = document.createElement('div');
  for (const { text, style } of partsOf(line)) {
    if (!style) element.append(text);
    else element.append(Object.assign(document.createElement('span'), { className: style, textContent: text }));
  }
  return element;
}
