// @ts-check

import { shortId } from './format.js';
import { palette } from './theme.js';
import { AXIS, draw, fit, LANE } from './timeline-draw.js';
import { lanesOf, timeAt } from './timeline-geometry.js';

/**
 * @typedef {import('./timeline-geometry.js').Bar} Bar
 * @typedef {import('./timeline-geometry.js').Lane} Lane
 * @typedef {import('./store.js').Store} Store
 */

export const FEW_LANES = 10;
const MANY_LANES = 60;
const LEAST_SPAN = 0.002;
const MOST_SPAN = 1800;

/** What a timeline has besides its component's state: it is drawn without drawing the component. */
export class Drawing {
  /** @param {Store} store @param {string} session empty: all */
  constructor(store, session) {
    this.store = store;
    this.session = session;
    this.span = 60;
    /** @type {number | null} the end of the window while it stands still */
    this.frozen = null;
    this.scroll = 0;
    this.tall = false;
    this.width = 600;
    /** @type {Lane[]} */
    this.lanes = [];
    /** @type {Bar | null} */
    this.chosen = null;
    this.drawnAt = 0;
    this.shown = { window: { from: 0, to: this.span }, now: this.span };
    /** @type {HTMLCanvasElement | null} */
    this.canvas = null;
  }

  get gutter() {
    return this.session ? 0 : this.width < 560 ? 96 : 168;
  }

  get window() {
    const to = this.frozen ?? this.store.now();
    return { from: to - this.span, to };
  }

  get height() {
    return Math.min(this.tall ? MANY_LANES : FEW_LANES, Math.max(this.session ? 1 : 3, this.lanes.length)) * LANE + AXIS;
  }

  /** The furthest that the lanes can be scrolled, in pixels. */
  get mostScroll() {
    return Math.max(0, this.lanes.length * LANE - (this.height - AXIS));
  }

  /** @param {number} from @param {number} to pixels, in any order @returns {[number, number]} */
  timesBetween(from, to) {
    const at = (/** @type {number} */ x) => timeAt(x, this.shown.window, this.width, this.gutter);
    const [first, last] = [at(Math.min(from, to)), at(Math.max(from, to))];
    return [first, Math.max(last, first + LEAST_SPAN)];
  }

  /** A window that is so many times as long, around the chosen call. @param {number} factor @returns {[number, number]} */
  scaled(factor) {
    const { from, to } = this.shown.window;
    const span = Math.min(MOST_SPAN, Math.max(LEAST_SPAN, (to - from) * factor));
    const middle = this.chosen ? (this.chosen.from + this.chosen.to) / 2 : (from + to) / 2;
    return [middle - span / 2, middle + span / 2];
  }

  draw() {
    if (!this.canvas) return;
    const { model } = this.store;
    const now = this.store.now();
    const rows = [...model.sessions.values()].filter((row) => !this.session || row.id === this.session);
    const calls = this.session ? [...model.calls.newest()].filter((call) => call.session === this.session) : model.calls.newest();
    this.lanes = lanesOf(rows, calls, this.window, now, (call) => this._label(call));
    if (!this.session) this._arrange();
    this.scroll = Math.min(this.scroll, this.mostScroll);
    this.drawnAt = performance.now();
    this.shown = { window: this.window, now };
    this.canvas.style.height = `${this.height}px`;
    this.paint();
  }

  /** The lanes as they are: for a pointer that moves, they need not be found anew. */
  paint() {
    if (!this.canvas) return;
    const { lanes, width, height, gutter, scroll, chosen } = this;
    const scene = { lanes, width, height, gutter, scroll, chosen, ...this.shown, colours: palette() };
    draw(fit(this.canvas, width, height), scene);
  }

  /** In the order of creation, so that lanes do not jump; those that ended come after them. */
  _arrange() {
    const order = new Map([...this.store.model.sessions.keys()].map((id, index) => [id, index]));
    const place = (/** @type {Lane} */ lane) => order.get(lane.session ?? '') ?? (lane.session ? 1e6 : 1e5);
    this.lanes.sort((a, b) => place(a) - place(b) || (a.key < b.key ? -1 : 1));
  }

  /** @param {import('./timeline-geometry.js').Place} place */
  _label({ session, refused }) {
    if (!session) return refused ? 'refused' : 'shared pool';
    return this.store.model.find(session)?.name || shortId(session);
  }
}
