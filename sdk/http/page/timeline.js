// @ts-check
/** The calls as they pass: a lane for each session, a bar for each call. */

import { shortId } from './format.js';
import { palette, watchTheme } from './theme.js';
import { AXIS, draw, fit, LANE } from './timeline-draw.js';
import { barAt, lanesOf, timeAt } from './timeline-geometry.js';
import { Detail } from './timeline-detail.js';
import { html, Legend, Segmented, useEffect, useRef, useServices, useState, useVisible } from './ui.js';
import { sessionRoute } from './route.js';

/**
 * @typedef {import('./timeline-geometry.js').Bar} Bar
 * @typedef {import('./timeline-geometry.js').Lane} Lane
 * @typedef {import('./store.js').Store} Store
 */

/** @type {[number, string][]} */
const SPANS = [[60, '60 s'], [300, '5 min'], [1800, '30 min']];
const MOST_LANES_IN_VIEW = 10;
/** A longer window moves less than a pixel in a frame: it is drawn less often. */
const SLOW_SPAN = 300;
const SLOW_MS = 900;
/** @type {[string, string][]} */
const COLOURS = [['queue', 'waits'], ['cold', 'starts, cold'], ['warm', 'runs'], ['stream', 'streams'], ['failed', 'failed']];

/** What a timeline has besides its component's state: it is drawn without drawing the component. */
class Drawing {
  /** @param {Store} store @param {string} session empty: all */
  constructor(store, session) {
    this.store = store;
    this.session = session;
    this.span = 60;
    /** @type {number | null} the end of the window while it stands still */
    this.frozen = null;
    this.scroll = 0;
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
    return Math.min(MOST_LANES_IN_VIEW, Math.max(this.session ? 1 : 3, this.lanes.length)) * LANE + AXIS;
  }

  draw() {
    if (!this.canvas) return;
    const { model } = this.store;
    const now = this.store.now();
    const rows = [...model.sessions.values()].filter((row) => !this.session || row.id === this.session);
    const calls = this.session ? [...model.calls.newest()].filter((call) => call.session === this.session) : model.calls.newest();
    this.lanes = lanesOf(rows, calls, this.window, now, (call) => this._label(call));
    if (!this.session) this._arrange();
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

  /** @param {{ session: string | null, app: string }} call */
  _label({ session }) {
    if (!session) return 'shared pool';
    return this.store.model.find(session)?.name || shortId(session);
  }
}

/** @param {{ title: string, session: string }} props */
export function Timeline({ title, session }) {
  const { store } = useServices();
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const drawing = useRef(new Drawing(store, session)).current;
  const visible = useVisible(box, () => drawing.draw());
  const [span, setSpan] = useState(60);
  const [frozen, freeze] = useState(false);
  const [chosen, choose] = useState(/** @type {{ bar: Bar, lane: Lane, x: number, y: number } | null} */ (null));
  drawing.span = span;
  useDrawing(drawing, box, visible, store);
  const pick = (/** @type {typeof chosen} */ what) => {
    const same = drawing.chosen?.id === what?.bar.id;
    drawing.chosen = what?.bar ?? null;
    if (!same) drawing.paint();
    if (!same || what) choose(what);
  };
  const hold = () => {
    drawing.frozen = frozen ? null : store.now();
    freeze(!frozen);
    drawing.draw();
  };
  return html`<section class="panel timeline" aria-labelledby=${`timeline${session}`}>
    <div class="panel-head"><h2 id=${`timeline${session}`}>${title}</h2><${Legend} of=${COLOURS} />
      <${Segmented} label="Time shown" options=${SPANS} chosen=${span} choose=${setSpan} />
      <button class="small" aria-pressed=${frozen} onClick=${hold}>${frozen ? 'Go on' : 'Pause'}</button>
    </div>
    <${Surface} drawing=${drawing} box=${box} pick=${pick} chosen=${chosen} />
  </section>`;
}

/** @param {Drawing} drawing @param {{ current: HTMLDivElement | null }} box @param {{ current: boolean }} visible @param {Store} store */
function useDrawing(drawing, box, visible, store) {
  useEffect(() => {
    const place = /** @type {HTMLDivElement} */ (box.current);
    drawing.canvas = place.querySelector('canvas');
    const observer = new ResizeObserver(() => {
      drawing.width = place.clientWidth;
      drawing.draw();
    });
    observer.observe(place);
    const stops = [watchTheme(() => drawing.draw()), store.watch(() => {
      const slow = drawing.span > SLOW_SPAN && performance.now() - drawing.drawnAt < SLOW_MS;
      if (visible.current && !slow) drawing.draw();
    })];
    return () => [() => observer.disconnect(), ...stops].forEach((stop) => stop());
  }, []);
  useEffect(() => drawing.draw(), [drawing.span]);
}

/** @param {{ drawing: Drawing, box: any, pick: (what: any) => void, chosen: any }} props */
function Surface({ drawing, box, pick, chosen }) {
  const onMove = (/** @type {MouseEvent} */ event) => pick(under(drawing, box.current, event));
  const onClick = (/** @type {MouseEvent} */ event) => {
    const { top } = box.current.getBoundingClientRect();
    const lane = drawing.lanes[Math.floor((event.clientY - top + drawing.scroll) / LANE)];
    if (lane?.session && !drawing.session) location.hash = sessionRoute(lane.session);
  };
  const onWheel = (/** @type {WheelEvent} */ event) => {
    const most = Math.max(0, drawing.lanes.length * LANE - (drawing.height - AXIS));
    const next = Math.min(most, Math.max(0, drawing.scroll + event.deltaY));
    if (next === drawing.scroll) return;
    event.preventDefault();
    drawing.scroll = next;
    drawing.paint();
  };
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const next = neighbour(drawing, event.key);
    if (next === undefined) return;
    event.preventDefault();
    pick(next);
  };
  return html`<div class="surface" ref=${box} tabindex="0" role="application" aria-roledescription="timeline"
      aria-label="Timeline of calls. Left and right go from call to call, up and down from session to session."
      onKeyDown=${onKey} onBlur=${() => pick(null)}
      onMouseMove=${onMove} onMouseLeave=${() => pick(null)} onClick=${onClick} onWheel=${onWheel}>
    <canvas aria-hidden="true"></canvas>
    <${Nothing} drawing=${drawing} />
    ${chosen && html`<${Detail} ...${chosen} width=${drawing.width} now=${drawing.store.now()} />`}
  </div>`;
}

/** @param {{ drawing: Drawing }} props */
function Nothing({ drawing }) {
  const { store } = drawing;
  const [none, tell] = useState(false);
  useEffect(() => store.watch(() => tell(drawing.lanes.length === 0)), [store]);
  return none ? html`<p class="nothing">No call in this time.</p>` : null;
}

/** @param {Drawing} drawing @param {HTMLElement} box @param {MouseEvent} event */
function under(drawing, box, event) {
  const area = box.getBoundingClientRect();
  const [x, y] = [event.clientX - area.left, event.clientY - area.top];
  const lane = drawing.lanes[Math.floor((y + drawing.scroll) / LANE)];
  if (x < drawing.gutter || y > drawing.height - AXIS) return null;
  const slack = (5 / (drawing.width - drawing.gutter)) * drawing.span;
  const bar = barAt(lane, timeAt(x, drawing.shown.window, drawing.width, drawing.gutter), slack);
  return bar && { bar, lane, x, y };
}

/** The call beside the chosen one; undefined for keys that mean nothing here. @param {Drawing} drawing @param {string} key */
function neighbour(drawing, key) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0;
  const jump = { ArrowUp: -1, ArrowDown: 1 }[key] ?? 0;
  if (key === 'Escape') return null;
  if (!step && !jump) return undefined;
  const { lanes } = drawing;
  const at = Math.max(0, lanes.findIndex((lane) => lane.bars.some((bar) => bar.id === drawing.chosen?.id)));
  const lane = lanes[Math.min(lanes.length - 1, Math.max(0, at + jump))];
  if (!lane) return null;
  const bars = [...lane.bars].sort((a, b) => a.from - b.from);
  const here = bars.findIndex((bar) => bar.id === drawing.chosen?.id);
  const bar = bars[here < 0 ? bars.length - 1 : Math.min(bars.length - 1, Math.max(0, here + step))];
  return keptInView(drawing, lanes.indexOf(lane), lane, bar);
}

/** @param {Drawing} drawing @param {number} index @param {Lane} lane @param {Bar} bar */
function keptInView(drawing, index, lane, bar) {
  const room = drawing.height - AXIS;
  drawing.scroll = Math.min(index * LANE, Math.max(drawing.scroll, (index + 1) * LANE - room));
  const { from, to } = drawing.shown.window;
  const x = drawing.gutter + ((Math.max(from, bar.from) - from) / (to - from)) * (drawing.width - drawing.gutter);
  return { bar, lane, x, y: index * LANE - drawing.scroll + LANE / 2 };
}

