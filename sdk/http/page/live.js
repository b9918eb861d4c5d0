// @ts-check
/**
 * Keeps the live stream open: reads it, notices when it is dead, and comes again.  A page that nobody has
 * looked at for a while gives it back: browsers have only six connections to a server, for all tabs.
 */

import { ApiError } from './api.js';

/**
 * @typedef {import('./api.js').Api} Api
 * @typedef {import('./types.js').Line} Line
 * @typedef {{ line: (line: Line) => void, refused: (detail: string) => void, lost: (detail: string) => void }} Listener
 */

const SILENCE_MS = 40_000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;
const HIDDEN_MS = 30_000;
const UNKNOWN_KEY = 'The gateway does not know this key, or it was revoked.';

/** @param {ApiError} error */
function inWords(error) {
  return error.status ? error.message : 'Is `warmd http` still running?';
}

export class Live {
  /** @param {Api} api @param {Listener} listener */
  constructor(api, listener) {
    this._api = api;
    this._listener = listener;
    this._stopped = new AbortController();
    this._pause = FIRST_PAUSE_MS;
    /** @type {() => void} */
    this._hurry = () => {};
    this._asleep = false;
    /** @type {() => void} ends what is being read */
    this._cut = () => {};
    this._hiding = 0;
  }

  start() {
    const { signal } = this._stopped;
    window.addEventListener('online', () => this._hurry(), { signal });
    document.addEventListener('visibilitychange', () => this._seenOrNot(), { signal });
    void this._run();
  }

  _seenOrNot() {
    clearTimeout(this._hiding);
    if (document.hidden) this._hiding = setTimeout(() => this._sleep(), HIDDEN_MS);
    else if (this._asleep) {
      this._asleep = false;
      this._hurry();
    }
  }

  _sleep() {
    this._asleep = true;
    this._cut();
  }

  stop() {
    this._stopped.abort();
    this._hurry();
  }

  async _run() {
    while (!this._stopped.signal.aborted) {
      try {
        await this._read();
        if (!this._asleep) this._listener.lost('It ended the connection.');
      } catch (error) {
        if (this._stopped.signal.aborted) return;
        if (this._isRefusal(error)) return;
        if (!this._asleep) this._listener.lost(error instanceof ApiError ? inWords(error) : 'The connection broke.');
      }
      await this._rest();
    }
  }

  /** @param {unknown} error */
  _isRefusal(error) {
    if (!(error instanceof ApiError) || (error.status !== 401 && error.status !== 403)) return false;
    this._listener.refused(error.status === 401 ? UNKNOWN_KEY : error.message);
    return true;
  }

  /** Until the stream ends, breaks or falls silent. */
  async _read() {
    const over = new AbortController();
    const stop = () => over.abort();
    this._stopped.signal.addEventListener('abort', stop);
    this._cut = stop;
    let watch = setTimeout(stop, SILENCE_MS);
    try {
      for await (const text of this._api.lines('live', over.signal)) {
        clearTimeout(watch);
        watch = setTimeout(stop, SILENCE_MS);
        this._pause = FIRST_PAUSE_MS;
        this._listener.line(JSON.parse(text));
      }
    } finally {
      clearTimeout(watch);
      over.abort();
      this._stopped.signal.removeEventListener('abort', stop);
    }
  }

  /** @returns {Promise<void>} */
  _rest() {
    const pause = this._pause;
    this._pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
    return new Promise((resolve) => {
      const timer = this._asleep ? undefined : setTimeout(resolve, pause);
      this._hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
