// @ts-check

import { LineSplitter } from './ndjson.js';
import { Ring } from './ring.js';

export const MAX_LINES = 5000;

/** What a session printed, between two drawings: lines wait here, and no more of them than are kept. */
export class LogLines {
  constructor() {
    /** @type {Ring<string>} */
    this._waiting = new Ring(MAX_LINES);
    this._splitter = new LineSplitter();
  }

  /** @param {string} text @returns {boolean} whether there is a line to draw */
  push(text) {
    for (const line of this._splitter.push(text)) this._waiting.push(line);
    return this._waiting.length > 0;
  }

  /** The stream is over: what has no end of a line is one, too. */
  end() {
    const rest = this._splitter.end();
    if (rest) this._waiting.push(rest);
  }

  /** The lines that wait, which then wait no more. */
  take() {
    const lines = [...this._waiting];
    this._waiting.clear();
    return lines;
  }
}
