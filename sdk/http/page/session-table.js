// @ts-check
/** The table of sessions.  A row is drawn again only when one of its texts has changed. */

import { plural, title } from './format.js';
import { sessionRoute } from './route.js';
import { rowTexts, sameTexts } from './rowtexts.js';
import { matching, sorted, turned } from './sorting.js';
import { byValue, h, html, memo, State, useServices, useState, useStore } from './ui.js';

/**
 * @typedef {import('./types.js').Row} Row
 * @typedef {import('./sorting.js').Order} Order
 * @typedef {ReturnType<typeof rowTexts> & { gpuShown: boolean, mayRun: boolean }} Texts
 */

/** How many rows are shown before somebody asks for all of them. */
const FIRST_ROWS = 25;

/** @type {[string, string, string][]} */
const COLUMNS = [
  ['app', 'App', ''], ['session', 'Session', ''], ['state', 'State', ''], ['age', 'Age', 'num'], ['left', 'Idle time left', 'left'],
  ['calls', 'Calls', 'num'], ['queued', 'Queue', 'num'], ['memory', 'Memory', 'num'], ['cpu', 'CPU', 'num'], ['gpu', 'GPU', 'num'],
];

/** @param {{ filter: string, clear: () => void }} props */
export function SessionTable({ filter, clear }) {
  const store = useStore();
  const [order, sort] = useState(/** @type {Order} */ ({ column: 'age', down: false }));
  const [all, showAll] = useState(false);
  const { model } = store;
  const every = [...model.sessions.values()];
  const rows = sorted(matching(every, filter), order);
  const gpuShown = every.some((row) => row.gpu);
  const shown = all ? rows : rows.slice(0, FIRST_ROWS);
  if (!rows.length) {
    return html`<p class="none">No session matches “${filter}”. <button class="plain" onClick=${clear}>Show all</button></p>`;
  }
  return html`<${SortChoice} order=${order} sort=${sort} gpuShown=${gpuShown} />
    <table role="table" class=${`sessions ${gpuShown ? 'with-gpu' : ''} ${model.may('run') ? '' : 'to-read'}`} aria-label="Sessions">
      <${Head} order=${order} sort=${sort} gpuShown=${gpuShown} />
      <tbody role="rowgroup">${shown.map((row) => rowOf(row, store.now(), gpuShown, model.may('run')))}</tbody>
    </table>
    ${rows.length > FIRST_ROWS && html`<p class="more"><button onClick=${() => showAll(!all)} aria-expanded=${all}>
      ${all ? `Show the first ${FIRST_ROWS}` : `Show all ${plural(rows.length, 'session')}`}</button></p>`}`;
}

/** @param {Row} row @param {number} now @param {boolean} gpuShown @param {boolean} mayRun */
function rowOf(row, now, gpuShown, mayRun) {
  return h(/** @type {any} */ (MemoRow), { key: row.id, texts: { ...rowTexts(row, now), gpuShown, mayRun } });
}

/** @param {{ order: Order, sort: (order: Order) => void, gpuShown: boolean }} props */
function Head({ order, sort, gpuShown }) {
  const columns = COLUMNS.filter(([name]) => name !== 'gpu' || gpuShown);
  return html`<thead role="rowgroup"><tr role="row">
    ${columns.map(([name, words, kind]) => {
      const [way, arrow] = order.column !== name ? [undefined, ''] : order.down ? ['descending', '↓'] : ['ascending', '↑'];
      return html`<th key=${name} role="columnheader" scope="col" class=${`${name} ${kind}`} aria-sort=${way}>
        <button class="sort" onClick=${() => sort(turned(order, name))}>${words}
          <span class="arrow" aria-hidden="true">${arrow}</span></button></th>`;
    })}
    <th role="columnheader" scope="col" class="actions"><span class="hidden">Actions</span></th>
  </tr></thead>`;
}

/**
 * Where the table is cards, which have no header to press.
 * @param {{ order: Order, sort: (order: Order) => void, gpuShown: boolean }} props
 */
function SortChoice({ order, sort, gpuShown }) {
  const columns = COLUMNS.filter(([name]) => name !== 'gpu' || gpuShown);
  const pick = byValue((column) => sort(turned({ column: '', down: false }, column)));
  const turn = () => sort(turned(order, order.column));
  return html`<div class="sort-choice"><label for="sort">Sort by</label>
    <select id="sort" value=${order.column} onChange=${pick}>
      ${columns.map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}</select>
    <button class="small" onClick=${turn} aria-label="Turn the order round">${order.down ? '↓' : '↑'}</button></div>`;
}

const MemoRow = memo(TableRow, (before, after) => sameTexts(before.texts, after.texts));

/** @param {{ texts: Texts }} props */
function TableRow({ texts }) {
  const cell = (/** @type {string} */ name, /** @type {string} */ label, /** @type {any} */ value) =>
    html`<td role="cell" class=${`${name} num`} data-label=${label}>${value}</td>`;
  const whole = `${texts.app} ${title(texts)}`;
  return html`<tr role="row">
    <td role="cell" class="app"><bdi>${texts.app}</bdi></td>
    <td role="cell" class="session">${who(texts)}</td>
    <td role="cell" class="state-cell"><${State} tone=${texts.tone}>${texts.state}<//>
      ${texts.running && html`<span class="running num">${texts.running}</span>`}</td>
    ${cell('age', 'Age', texts.age)}
    <td role="cell" class="left num" data-label="Idle time left"><${Left} texts=${texts} /></td>
    ${cell('calls', 'Calls', texts.calls)}
    ${cell(texts.queued === '0' ? 'queued nought' : 'queued', 'Queue', texts.queued)}
    ${cell('memory', 'Memory', texts.memory)}
    ${cell('cpu', 'CPU', texts.cpu)}
    ${texts.gpuShown && cell('gpu', 'GPU', texts.gpu)}
    <td role="cell" class="actions">${texts.mayRun && texts.alive && html`<${RowActions} id=${texts.id} name=${whole} />`}</td>
  </tr>`;
}

/** @param {Texts} texts */
function who(texts) {
  if (texts.kind) return html`<span class="kind">${texts.kind}</span>`;
  return html`<a class="row-link" href=${sessionRoute(texts.id)}><span class="hidden">${texts.app}${' '}</span>
    ${texts.name && html`<bdi class="name">${texts.name}</bdi>${' '}`}<bdi class="id">${texts.shortId}</bdi></a>`;
}

/** @param {{ texts: Texts }} props */
function Left({ texts }) {
  const filled = { transform: `scaleX(${texts.leftFraction})` };
  return html`${texts.leftFraction !== null && html`<span class="bar" aria-hidden="true"><span style=${filled}></span></span>`}
    <span>${texts.left}</span>`;
}

/** @param {{ id: string, name: string }} props */
function RowActions({ id, name }) {
  const { store, ending } = useServices();
  const withRow = (/** @type {(row: Row) => void} */ act) => () => {
    const row = store.model.sessions.get(id);
    if (row) act(row);
  };
  const keepAlive = withRow((row) => ending.keepAlive(row));
  return html`<button class="small" aria-label=${`Keep alive: ${name}`} onClick=${keepAlive}>Keep alive</button>
    <button class="small" aria-label=${`End: ${name}`} onClick=${withRow((row) => ending.ask(row))}>End</button>`;
}
