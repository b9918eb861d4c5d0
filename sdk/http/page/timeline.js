// @ts-check
/** The calls as they pass: a lane for each session, a bar for each call. */

import { watchTheme } from './theme.js';
import { Drawing, FEW_LANES } from './timeline-drawing.js';
import { Surface } from './timeline-surface.js';
import { html, Legend, Segmented, useEffect, useRef, useServices, useState, useVisible } from './ui.js';

/**
 * @typedef {import('./timeline-geometry.js').Bar} Bar
 * @typedef {import('./timeline-geometry.js').Lane} Lane
 * @typedef {import('./store.js').Store} Store
 */

/** @type {[number, string][]} */
const SPANS = [[60, '60 s'], [300, '5 min'], [1800, '30 min']];
const [SHORTEST] = SPANS[0];
/** A longer window moves less than a pixel in a frame: it is drawn less often. */
const SLOW_SPAN = 300;
const SLOW_MS = 900;
/** @type {[string, string][]} */
const COLOURS = [['queue', 'waits'], ['cold', 'starts, cold'], ['warm', 'runs'], ['stream', 'streams'], ['failed', 'failed']];

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
  const goOn = (/** @type {number} */ seconds) => {
    drawing.frozen = null;
    freeze(false);
    setSpan(seconds);
  };
  const zoom = (/** @type {number} */ from, /** @type {number} */ to) => {
    drawing.frozen = to;
    freeze(true);
    setSpan(to - from);
  };
  const isZoomed = !SPANS.some(([seconds]) => seconds === span);
  const hold = () => (frozen ? goOn(isZoomed ? SHORTEST : span) : zoom(store.now() - span, store.now()));
  return html`<section class="panel timeline" aria-labelledby=${`timeline${session}`}>
    <div class="panel-head"><h2 id=${`timeline${session}`}>${title}</h2><${Legend} of=${COLOURS} />
      <${Segmented} label="Time shown" options=${SPANS} chosen=${span} choose=${goOn} />
      <button class="small" aria-pressed=${frozen} onClick=${hold}>${frozen ? 'Go on' : 'Pause'}</button>
      <${Height} drawing=${drawing} />
    </div>
    <${Surface} drawing=${drawing} box=${box} pick=${pick} zoom=${zoom} chosen=${chosen} />
  </section>`;
}

/** Makes room for more lanes, where there are more. @param {{ drawing: Drawing }} props */
function Height({ drawing }) {
  const [count, tell] = useState(0);
  useEffect(() => drawing.store.watch(() => tell(drawing.lanes.length)), [drawing]);
  const turn = () => {
    drawing.tall = !drawing.tall;
    drawing.draw();
    tell(-1);
  };
  if (count >= 0 && count <= FEW_LANES) return null;
  return html`<button class="small" aria-pressed=${drawing.tall} onClick=${turn}>All sessions</button>`;
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
  useEffect(() => drawing.draw(), [drawing.span, drawing.frozen]);
}
