// @ts-check
/** Short words about what was done: good news goes by itself, bad news stays until it is closed. */

import { html, inline, useEffect, useServices, useState } from './ui.js';

const GOOD_NEWS_MS = 5000;
const MOST = 4;

/** @typedef {{ id: number, text: string, bad: boolean }} Notice */

export class Notices {
  constructor() {
    /** @type {Notice[]} */
    this.shown = [];
    this._next = 1;
    /** @type {() => void} */
    this.onChange = () => {};
  }

  /** @param {string} text */
  tell(text) {
    const id = this._add(text, false);
    setTimeout(() => this.close(id), GOOD_NEWS_MS);
  }

  /** @param {unknown} error */
  fail(error) {
    this._add(error instanceof Error ? error.message : String(error), true);
  }

  /** @param {number} id */
  close(id) {
    this.shown = this.shown.filter((each) => each.id !== id);
    this.onChange();
  }

  /** @param {string} text @param {boolean} bad */
  _add(text, bad) {
    const id = this._next;
    this._next += 1;
    this.shown = [...this.shown.filter((each) => each.text !== text), { id, text, bad }].slice(-MOST);
    this.onChange();
    return id;
  }
}

export function NoticeList() {
  const { notices } = useServices();
  const [, turn] = useState(0);
  useEffect(() => {
    let count = 0;
    notices.onChange = () => turn((count += 1));
  }, [notices]);
  return html`<div class="notices" role="status" aria-live="polite">
    ${notices.shown.map(({ id, text, bad }) => html`<div class="notice ${bad ? 'bad' : ''}" key=${id}>
      <span>${inline(text)}</span>
      <button class="plain" aria-label="Close" onClick=${() => notices.close(id)}>✕</button></div>`)}
  </div>`;
}
