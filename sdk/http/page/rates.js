// @ts-check

/** Events a second, over the last few seconds. */
export class Rate {
  /** @param {number} seconds the window */
  constructor(seconds = 10) {
    this.seconds = seconds;
    /** @type {{ at: number, n: number }[]} */
    this._counts = [];
    this._since = NaN;
  }

  /** Begins anew: from now on there is something to count. @param {number} now */
  start(now) {
    this._counts = [];
    this._since = now;
  }

  /** @param {number} now @param {number} n */
  add(now, n) {
    if (n > 0) this._counts.push({ at: now, n });
    this._drop(now);
  }

  /** @param {number} now */
  per(now) {
    this._drop(now);
    const total = this._counts.reduce((sum, { n }) => sum + n, 0);
    const watched = Math.min(this.seconds, Math.max(1, now - this._since));
    return Number.isFinite(watched) ? total / watched : 0;
  }

  /** @param {number} now */
  _drop(now) {
    while (this._counts.length && now - this._counts[0].at > this.seconds) this._counts.shift();
  }
}
