// @ts-check
/** Keeps the live stream open: reads it, notices when it is dead, and comes again. */

import { ApiError } from './api.js';

/**
 * @typedef {import('./api.js').Api} Api
 * @typedef {import('./types.js').Line} Line
 * @typedef {{ line: (line: Line) => void, refused: (detail: string) => void, lost: (detail: string) => void }} Listener
 */

const SILENCE_MS = 40_000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;

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
  }

  start() {
    window.addEventListener('online', () => this._hurry(), { signal: this._stopped.signal });
    void this._run();
  }

  stop() {
    this._stopped.abort();
    this._hurry();
  }

  async _run() {
    while (!this._stopped.signal.aborted) {
      try {
        await this._read();
        this._listener.lost('It ended the connection.');
      } catch (error) {
        if (this._stopped.signal.aborted) return;
        if (this._isRefusal(error)) return;
        this._listener.lost(error instanceof ApiError ? inWords(error) : 'The connection broke.');
      }
      await this._rest();
    }
  }

  /** @param {unknown} error */
  _isRefusal(error) {
    if (!(error instanceof ApiError) || (error.status !== 401 && error.status !== 403)) return false;
    this._listener.refused(error.message);
    return true;
  }

  /** Until the stream ends, breaks or falls silent. */
  async _read() {
    const over = new AbortController();
    const stop = () => over.abort();
    this._stopped.signal.addEventListener('abort', stop);
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
      const timer = setTimeout(resolve, pause);
      this._hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
