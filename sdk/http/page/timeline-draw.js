// @ts-check
/** Draws the timeline on a canvas: only the lanes that are in view. */

import { clock, duration } from './format.js';
import { ticks, xOf } from './timeline-geometry.js';

/**
 * @typedef {import('./timeline-geometry.js').Lane} Lane
 * @typedef {import('./timeline-geometry.js').Bar} Bar
 * @typedef {import('./timeline-geometry.js').Window} Window
 * @typedef {object} Scene
 * @property {Lane[]} lanes
 * @property {Window} window
 * @property {number} now
 * @property {number} width
 * @property {number} height
 * @property {number} gutter
 * @property {number} scroll pixels that the lanes are scrolled by
 * @property {Bar | null} chosen
 * @property {Record<string, string>} colours
 */

export const LANE = 26;
export const AXIS = 26;
const BAR = 14;
const FONT = '12px system-ui, sans-serif';

/** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
export function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** @param {CanvasRenderingContext2D} c @param {Scene} scene */
export function draw(c, scene) {
  c.clearRect(0, 0, scene.width, scene.height);
  c.font = FONT;
  c.textBaseline = 'middle';
  drawAxis(c, scene);
  c.save();
  c.beginPath();
  c.rect(0, 0, scene.width, scene.height - AXIS);
  c.clip();
  const first = Math.max(0, Math.floor(scene.scroll / LANE));
  const last = Math.min(scene.lanes.length, Math.ceil((scene.scroll + scene.height - AXIS) / LANE));
  for (let index = first; index < last; index += 1) drawLane(c, scene, scene.lanes[index], index * LANE - scene.scroll);
  c.restore();
  drawScrollbar(c, scene);
}

/** @param {CanvasRenderingContext2D} c @param {Scene} scene */
function drawScrollbar(c, { lanes, width, height, scroll, colours }) {
  const [room, all] = [height - AXIS, lanes.length * LANE];
  if (all <= room) return;
  c.fillStyle = colours.queue;
  c.fillRect(width - 4, (scroll / all) * room, 4, (room / all) * room);
}

/** @param {CanvasRenderingContext2D} c @param {Scene} scene */
function drawAxis(c, scene) {
  const { window, width, height, gutter, colours } = scene;
  const bottom = height - AXIS;
  c.fillStyle = colours.line;
  c.fillRect(0, bottom, width, 1);
  c.textAlign = 'center';
  const { marks, places } = ticks(window, width - gutter);
  for (const at of marks) {
    const x = Math.round(xOf(at, window, width, gutter));
    c.fillStyle = colours.line;
    c.fillRect(x, 0, 1, bottom);
    c.fillStyle = colours.muted;
    if (x > gutter + 28 && x < width - 28) c.fillText(clock(at, places), x, bottom + AXIS / 2 + 1);
  }
  c.textAlign = 'right';
  const live = scene.now - window.to < 1;
  const long = duration(window.to - window.from);
  if (gutter) c.fillText(live ? `last ${long}` : long, gutter - 8, bottom + AXIS / 2 + 1);
}

/** @param {CanvasRenderingContext2D} c @param {Scene} scene @param {Lane} lane @param {number} top */
function drawLane(c, scene, lane, top) {
  const { gutter, width, colours } = scene;
  for (let index = lane.bars.length - 1; index >= 0; index -= 1) drawBar(c, scene, lane.bars[index], top + (LANE - BAR) / 2);
  c.fillStyle = colours.line;
  c.fillRect(0, top + LANE - 1, width, 1);
  if (gutter) drawLabel(c, scene, lane, top);
}

/** @param {CanvasRenderingContext2D} c @param {Scene} scene @param {Lane} lane @param {number} top */
function drawLabel(c, { gutter, colours }, lane, top) {
  c.textAlign = 'left';
  c.fillStyle = colours.text;
  const app = clipped(c, lane.app, gutter * 0.5);
  c.fillText(app, 2, top + LANE / 2);
  const at = 2 + c.measureText(app).width + 7;
  c.fillStyle = colours.muted;
  c.fillText(clipped(c, lane.label, gutter - at - 8), at, top + LANE / 2);
}

/** @param {CanvasRenderingContext2D} c @param {string} text @param {number} width */
function clipped(c, text, width) {
  if (c.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && c.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return `${short}…`;
}

/** @type {Record<string, string>} */
const COLOURS = { queue: 'queue', start: 'cold', run: 'warm', stream: 'stream', failed: 'failed' };

/** @param {CanvasRenderingContext2D} c @param {Scene} scene @param {Bar} bar @param {number} top */
function drawBar(c, scene, bar, top) {
  const { window, width, gutter, colours } = scene;
  if (bar.to < window.from || bar.from > window.to) return;
  for (const { kind, from, to } of bar.segments) {
    const left = Math.max(gutter, xOf(from, window, width, gutter));
    const right = Math.min(width, xOf(to, window, width, gutter));
    if (right < gutter || left > width) continue;
    c.fillStyle = colours[COLOURS[kind]];
    if (kind === 'queue') c.fillRect(left, top + BAR - 3, right - left, 3);
    else c.fillRect(left, top, Math.max(kind === 'start' ? 3 : 2, right - left - 0.5), BAR);
  }
  const end = xOf(bar.to, window, width, gutter);
  if (bar.call?.code && end >= gutter) mark(c, end, top, colours.failed);
  if (scene.chosen?.id === bar.id) outline(c, scene, bar, top);
}

/**
 * A failure is seen without its colour, too.
 * @param {CanvasRenderingContext2D} c
 * @param {number} x
 * @param {number} top
 * @param {string} colour
 */
function mark(c, x, top, colour) {
  c.fillStyle = colour;
  c.beginPath();
  c.moveTo(x - 5, top - 5);
  c.lineTo(x + 5, top - 5);
  c.lineTo(x, top + 1);
  c.fill();
}

/** @param {CanvasRenderingContext2D} c @param {Scene} scene @param {Bar} bar @param {number} top */
function outline(c, scene, bar, top) {
  const left = Math.max(scene.gutter, xOf(bar.from, scene.window, scene.width, scene.gutter));
  const right = Math.max(left + 3, xOf(bar.to, scene.window, scene.width, scene.gutter));
  c.strokeStyle = scene.colours.text;
  c.lineWidth = 1.5;
  c.strokeRect(left - 1.5, top - 2, right - left + 3, BAR + 4);
}
