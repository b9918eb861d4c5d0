// @ts-check
/** Starts runs of an app and follows their streams; whoever shows them is told at most ten times a second. */

import { ApiError } from './api.js';
import { afterError, afterLine, afterTask, isFinal, newRun } from './runstate.js';

/**
 * @typedef {import('./runstate.js').Run} Run
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./notices.js').Notices} Notices
 * @typedef {{ app: string, function: string, input?: any, session?: string, session_timeout?: number, setup?: any }} Body
 */

const MOST_RUNS = 20;
const SHOW_MS = 100;
const TRIES = 5;
const PAUSE_MS = 1000;

export class Runner {
  /** @param {Store} store @param {Notices} notices */
  constructor(store, notices) {
    this._store = store;
    this._notices = notices;
    /** @type {(runs: Run[]) => void} */
    this._show = () => {};
    /** @type {(session: string) => void} */
    this._onNewSession = () => {};
    /** @type {Run[]} newest first */
    this.runs = [];
    this._stopped = new AbortController();
    this._due = false;
  }

  /**
   * Shows the runs to somebody, who may go: they go on, and are there for the next.
   * @param {(runs: Run[]) => void} show
   * @param {(session: string) => void} onNewSession when a new session has answered
   * @returns {() => void} ends that
   */
  watch(show, onNewSession) {
    this._show = show;
    this._onNewSession = onNewSession;
    show(this.runs);
    return () => {
      this._show = this._onNewSession = () => {};
    };
  }

  stop() {
    this._stopped.abort();
  }

  /** @param {Body} body */
  async run(body) {
    const begun = newRun(body.app, body.function, body.input, now());
    this.runs = [begun, ...this.runs].slice(0, MOST_RUNS);
    this._changed();
    const key = begun.started;
    try {
      const task = await this._store.api.run({ ...body });
      this._update(key, (run) => afterTask(run, task, now()));
      await this._follow(key, task.id);
      const run = this._find(key);
      if (body.session === 'new' && run?.state === 'completed' && run.session) this._onNewSession(run.session);
    } catch (error) {
      if (this._stopped.signal.aborted) return;
      const message = error instanceof Error ? error.message : String(error);
      const code = error instanceof ApiError ? error.code : null;
      this._update(key, (run) => afterError(run, { message, code }, now()));
    }
  }

  /** @param {Run} run */
  async cancel(run) {
    if (!run.task) return;
    try {
      await this._store.api.cancel(run.task);
    } catch (error) {
      this._notices.fail(error);
    }
  }

  /** Until it is over: a stream that breaks is taken up again, for the run goes on. @param {number} key @param {string} task */
  async _follow(key, task) {
    for (let tries = 0; tries < TRIES; tries += 1) {
      try {
        const path = `tasks/${encodeURIComponent(task)}/stream?offset=${this._find(key)?.count ?? 0}`;
        for await (const line of this._store.api.lines(path, this._stopped.signal)) {
          this._update(key, (run) => afterLine(run, line, now()));
          if (this._isOver(key)) return;
        }
      } catch (error) {
        if (this._stopped.signal.aborted || (error instanceof ApiError && error.status)) throw error;
      }
      if (this._isOver(key)) return;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    throw new Error('The connection broke while it ran. It may still run: its session shows that.');
  }

  /** @param {number} key */
  _isOver(key) {
    const run = this._find(key);
    return !run || isFinal(run);
  }

  /** @param {number} key */
  _find(key) {
    return this.runs.find((run) => run.started === key);
  }

  /** @param {number} key @param {(run: Run) => Run} change */
  _update(key, change) {
    this.runs = this.runs.map((run) => (run.started === key ? change(run) : run));
    this._changed();
  }

  _changed() {
    if (this._due) return;
    this._due = true;
    setTimeout(() => {
      this._due = false;
      if (!this._stopped.signal.aborted) this._show(this.runs);
    }, this.runs.some((run) => run.count) ? SHOW_MS : 0);
  }
}

function now() {
  return Date.now() / 1000;
}
