// @ts-check
/**
 * The model, and when it is shown.  However much comes, the page is drawn at most four times a
 * second, in an animation frame; once a second it is drawn for the countdowns.  A page that nobody
 * sees gets no frames, so it draws nothing and is up to date with the first one.
 */

import { Api } from './api.js';
import { keep, storedKey } from './key.js';
import { Live } from './live.js';
import { apply, lost, Model } from './model.js';

const LEAST_BETWEEN_MS = 250;
const TICK_MS = 1000;

export class Store {
  constructor() {
    this.model = new Model();
    this.api = new Api(storedKey());
    /** Counts what was shown: changes with each drawing. */
    this.version = 0;
    /** How many files are on their way to the gateway: until they are there no run begins. */
    this.uploads = 0;
    /** By app. @type {Map<string, import('./runner.js').Runner>} */
    this.runners = new Map();
    /** Where somebody has last tried an app. */
    this.tried = '#/try/';
    /** @type {Set<() => void>} */
    this._watchers = new Set();
    this._shownAt = 0;
    this._due = false;
    /** @type {Live | null} */
    this._live = null;
  }

  start() {
    this._connect();
    setInterval(() => document.hidden || this.changed(), TICK_MS);
  }

  /** The gateway's time, in seconds. */
  now() {
    return this.model.now(Date.now() / 1000);
  }

  /** @param {() => void} watcher @returns {() => void} stops it */
  watch(watcher) {
    this._watchers.add(watcher);
    return () => void this._watchers.delete(watcher);
  }

  /** Takes another key, or none: all that was known under the old one is forgotten. @param {string} key */
  signIn(key) {
    keep(key);
    for (const runner of this.runners.values()) runner.stop();
    this.runners.clear();
    this.api = new Api(key);
    this.model = new Model();
    this._connect();
    this.changed();
  }

  /** @param {File} file @returns {Promise<string>} its address */
  async upload(file) {
    this.uploads += 1;
    this.changed();
    try {
      return await this.api.upload(file);
    } finally {
      this.uploads -= 1;
      this.changed();
    }
  }

  changed() {
    if (this._due) return;
    this._due = true;
    const wait = Math.max(0, this._shownAt + LEAST_BETWEEN_MS - performance.now());
    setTimeout(() => requestAnimationFrame(() => this._show()), wait);
  }

  _show() {
    this._due = false;
    this._shownAt = performance.now();
    this.version += 1;
    for (const watcher of [...this._watchers]) watcher();
  }

  _connect() {
    this._live?.stop();
    const model = this.model;
    const local = () => Date.now() / 1000;
    const told = (/** @type {() => void} */ change) => {
      if (model !== this.model) return;
      change();
      this.changed();
    };
    this._live = new Live(this.api, {
      line: (line) => told(() => apply(model, line, local())),
      refused: (detail) => told(() => lost(model, 'refused', detail, local())),
      lost: (detail) => told(() => lost(model, 'gateway-lost', detail, local())),
    });
    this._live.start();
  }
}
