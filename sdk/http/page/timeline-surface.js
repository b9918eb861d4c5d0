// @ts-check
/** The timeline under the pointer and the keys: what is chosen, where it is scrolled to, zooming. */

import { sessionRoute } from './route.js';
import { Detail } from './timeline-detail.js';
import { AXIS, LANE } from './timeline-draw.js';
import { barAt, timeAt } from './timeline-geometry.js';
import { html, useEffect, useState } from './ui.js';

/**
 * @typedef {import('./timeline-drawing.js').Drawing} Drawing
 * @typedef {import('./timeline-geometry.js').Bar} Bar
 * @typedef {import('./timeline-geometry.js').Lane} Lane
 */

const LEAST_DRAG = 6;

/**
 * @param {{ drawing: Drawing, box: any, pick: (what: any) => void, zoom: (from: number, to: number) => void, chosen: any }} props
 */
export function Surface({ drawing, box, pick, zoom, chosen }) {
  const [drag, setDrag] = useState(/** @type {{ from: number, to: number } | null} */ (null));
  const xOfPointer = (/** @type {MouseEvent} */ event) => event.clientX - box.current.getBoundingClientRect().left;
  const onDown = (/** @type {MouseEvent} */ event) => {
    const x = xOfPointer(event);
    if (event.button === 0 && x >= drawing.gutter) setDrag({ from: x, to: x });
  };
  const onMove = (/** @type {MouseEvent} */ event) => {
    if (drag) setDrag({ ...drag, to: Math.max(drawing.gutter, xOfPointer(event)) });
    else pick(under(drawing, box.current, event));
  };
  const onUp = (/** @type {MouseEvent} */ event) => {
    setDrag(null);
    if (drag && Math.abs(drag.to - drag.from) > LEAST_DRAG) zoom(...drawing.timesBetween(drag.from, drag.to));
    else follow(drawing, box.current, event);
  };
  const leave = () => {
    setDrag(null);
    pick(null);
  };
  const onWheel = (/** @type {WheelEvent} */ event) => {
    const next = Math.min(drawing.mostScroll, Math.max(0, drawing.scroll + event.deltaY));
    if (next === drawing.scroll) return;
    event.preventDefault();
    drawing.scroll = next;
    drawing.paint();
  };
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const scale = { '+': 0.5, '=': 0.5, '-': 2 }[event.key];
    const next = scale ? null : neighbour(drawing, event.key);
    if (next === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (scale) zoom(...drawing.scaled(scale));
    else pick(next);
  };
  return html`<div class="surface" ref=${box} tabindex="0" role="application" aria-roledescription="timeline"
      aria-label="Timeline of calls. Left and right go from call to call, up and down from session to session, plus and minus zoom."
      onKeyDown=${onKey} onBlur=${() => pick(null)} onMouseDown=${onDown} onMouseMove=${onMove} onMouseUp=${onUp}
      onMouseLeave=${leave} onWheel=${onWheel}>
    <canvas aria-hidden="true"></canvas>
    <${Nothing} drawing=${drawing} />
    ${drag && html`<div class="drag" style=${dragStyle(drag)}></div>`}
    ${chosen && !drag && html`<${Detail} ...${chosen} width=${drawing.width} now=${drawing.store.now()} />`}
  </div>`;
}

/** @param {{ from: number, to: number }} drag */
function dragStyle({ from, to }) {
  return { left: `${Math.min(from, to)}px`, width: `${Math.abs(to - from)}px` };
}

/** To the session whose lane was clicked. @param {Drawing} drawing @param {HTMLElement} box @param {MouseEvent} event */
function follow(drawing, box, event) {
  const y = event.clientY - box.getBoundingClientRect().top;
  const lane = drawing.lanes[Math.floor((y + drawing.scroll) / LANE)];
  if (lane?.session && !drawing.session && y < drawing.height - AXIS) location.hash = sessionRoute(lane.session);
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

