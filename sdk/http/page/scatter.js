// @ts-check
/** Each call of an app as a point: when it ended, and what it took, on a logarithmic scale. */

import { clock, duration } from './format.js';
import { columns } from './stats.js';
import { palette, watchTheme } from './theme.js';
import { html, useEffect, useRef, useVisible } from './ui.js';
import uPlot from './vendor/uPlot.esm.js';

/** @typedef {import('./stats.js').AppStats} AppStats */

const MOST_POINTS = 600;
const HEIGHT = 132;

/** @param {{ stats: AppStats }} props */
export function Scatter({ stats }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const refresh = () => plot.current?.setData(columns(stats.points, MOST_POINTS));
  const visible = useVisible(place, refresh);
  useEffect(() => {
    const box = /** @type {HTMLDivElement} */ (place.current);
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(box.clientWidth), columns(stats.points, MOST_POINTS), box);
    };
    make();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: box.clientWidth, height: HEIGHT }));
    observer.observe(box);
    const stop = watchTheme(make);
    return () => {
      stop();
      observer.disconnect();
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => {
    if (visible.current) refresh();
  }, [stats]);
  return html`<div class="scatter" ref=${place} aria-hidden="true"></div>`;
}

/** @param {number} width @returns {uPlot.Options} */
function options(width) {
  const colours = palette();
  const grid = { stroke: colours.line, width: 1 };
  const axis = { stroke: colours.muted, font: '11px system-ui, sans-serif', grid, ticks: { show: false } };
  const points = (/** @type {string} */ colour) =>
    ({ stroke: colour, paths: () => null, points: { show: true, size: 4.5, width: 0, fill: colour } });
  return {
    width, height: HEIGHT, legend: { show: false }, cursor: { show: false }, padding: [8, 28, 0, 0],
    scales: { x: { time: true, range: (_plot, from, to) => [from, to] }, y: { distr: 3, range: decades } },
    axes: [
      { ...axis, size: 24, space: 70, values: (_plot, marks) => marks.map((each) => clock(each)) },
      { ...axis, size: 54, splits: powers, values: (_plot, marks) => marks.map(named) },
    ],
    series: [{}, points(colours.warm), points(colours.cold)],
  };
}

/** @param {uPlot} _plot @param {number | null} least @param {number | null} most @returns {[number, number]} */
function decades(_plot, least, most) {
  const from = Math.floor(Math.log10(Math.max(1e-6, least ?? 1e-3)));
  const to = Math.ceil(Math.log10(Math.max(1e-6, most ?? 1)));
  return [10 ** from, 10 ** Math.max(from + 1, to)];
}

/** @param {uPlot} _plot @param {number} _axis @param {number} least @param {number} most */
function powers(_plot, _axis, least, most) {
  const marks = [];
  for (let power = Math.round(Math.log10(least)); power <= Math.round(Math.log10(most)); power += 1) marks.push(10 ** power);
  return marks;
}

/** @param {number | null} seconds null for a mark that has no room for words */
function named(seconds) {
  if (seconds === null) return '';
  return seconds < 0.9e-3 ? `${Math.round(seconds * 1e6)} µs` : duration(seconds);
}
