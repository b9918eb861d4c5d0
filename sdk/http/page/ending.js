// @ts-check
/** Ends sessions, once somebody has said yes, and keeps them alive. */

import { isolated, span, title } from './format.js';
import { html, useEffect, useRef, useServices, useState } from './ui.js';

/**
 * @typedef {import('./types.js').Row} Row
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./notices.js').Notices} Notices
 */

export class Ending {
  /** @param {Store} store @param {Notices} notices */
  constructor(store, notices) {
    this._store = store;
    this._notices = notices;
    /** @type {Row | null} the one that is asked about */
    this.row = null;
    /** @type {() => void} */
    this.onChange = () => {};
  }

  /** @param {Row | undefined} row null closes the question */
  ask(row) {
    this.row = row ?? null;
    this.onChange();
  }

  async confirm() {
    const row = this.row;
    this.ask(undefined);
    if (!row) return;
    try {
      await this._store.api.end(row.id);
      this._notices.tell(`${row.app} ${isolated(title(row))} is ending.`);
    } catch (error) {
      this._notices.fail(error);
    }
  }

  /** @param {Row} row */
  async keepAlive(row) {
    try {
      await this._store.api.keepAlive(row.id);
      const time = row.idle_timeout ? ` Its idle time of ${span(row.idle_timeout)} begins anew.` : '';
      this._notices.tell(`${row.app} ${isolated(title(row))} is kept alive.${time}`);
    } catch (error) {
      this._notices.fail(error);
    }
  }
}

export function EndQuestion() {
  const { ending } = useServices();
  const [, turn] = useState(0);
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const row = ending.row;
  useEffect(() => {
    let count = 0;
    ending.onChange = () => turn((count += 1));
  }, [ending]);
  useEffect(() => {
    if (row && !dialog.current?.open) dialog.current?.showModal();
    if (!row && dialog.current?.open) dialog.current.close();
  }, [row]);
  return html`<dialog ref=${dialog} aria-labelledby="end-title" onClose=${() => ending.ask(undefined)}>
    <h2 id="end-title">End ${row ? html`${row.app} <bdi>${title(row)}</bdi>` : 'the session'}?</h2>
    <p>Its process ends, with everything it holds. ${row ? whatGoes(row) : ''}</p>
    <div class="buttons">
      <button autofocus onClick=${() => ending.ask(undefined)}>Keep it</button>
      <button class="danger" onClick=${() => ending.confirm()}>End session</button>
    </div>
  </dialog>`;
}

/** @param {Row} row */
function whatGoes(row) {
  const queued = row.queued ? `${row.queued} waiting ${row.queued === 1 ? 'call' : 'calls'}` : '';
  const running = row.running ? 'the running call' : '';
  const both = [running, queued].filter(Boolean).join(' and ');
  return both ? `This cancels ${both}.` : 'No call is running.';
}
