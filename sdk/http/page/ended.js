// @ts-check
import { plural, shortId, span } from './format.js';
import { stateWord, tone } from './phases.js';
import { sessionRoute } from './route.js';
import { html, inline, State, useState } from './ui.js';

/** @typedef {import('./types.js').Row} Row */

/** The sessions that ended lately, and why. @param {{ rows: Row[], now: number }} props */
export function Ended({ rows, now }) {
  const [open, show] = useState(false);
  if (!rows.length) return null;
  return html`<details class="panel ended" onToggle=${(/** @type {any} */ event) => show(event.currentTarget.open)}>
    <summary><h2>Recently ended</h2> <span class="num muted">${rows.length}</span></summary>
    ${open && html`<ul aria-label=${`${plural(rows.length, 'session')} that ended`}>
      ${rows.map((row) => html`<${EndedRow} key=${row.id} row=${row} now=${now} />`)}</ul>`}
  </details>`;
}

/** @param {{ row: Row, now: number }} props */
function EndedRow({ row, now }) {
  return html`<li>
    <a href=${sessionRoute(row.id)}><span class="app">${row.app}</span>${' '}
      <bdi class="id">${row.name || shortId(row.id)}</bdi></a>
    <${State} tone=${tone(row.state)}>${stateWord(row.state)}<//>
    <span class="why">${inline(row.reason ?? '')}</span>
    <span class="num muted when">${row.ended_at ? `${span(now - row.ended_at)} ago` : ''}</span>
  </li>`;
}
