// @ts-check
import { duration } from './format.js';
import { html } from './ui.js';

/**
 * @typedef {import('./timeline-geometry.js').Bar} Bar
 * @typedef {import('./timeline-geometry.js').Lane} Lane
 * @typedef {import('./types.js').Call} Call
 */

const WIDTH = 250;

/** The numbers of one call, beside it. @param {{ bar: Bar, lane: Lane, x: number, y: number, width: number, now: number }} props */
export function Detail({ bar, lane, x, y, width, now }) {
  const left = Math.max(4, Math.min(x + 14, width - WIDTH - 4));
  const rows = bar.call ? timesOf(bar.call) : [[bar.function ? 'Running for' : 'Starting for', duration(Math.max(0, now - bar.from))]];
  const code = bar.call?.code;
  return html`<div class="detail" role="status" style=${{ left: `${left}px`, top: `${y + 18}px`, width: `${WIDTH}px` }}>
    <strong>${lane.app}${bar.function ? ` · ${bar.function}` : ''}</strong> <bdi class="muted">${lane.label}</bdi>
    ${bar.call?.cold && html`<div class="cold-word">Cold start</div>`}
    <dl class="num">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${code && html`<div class="failed-word">${code}${bar.call?.message ? `: ${bar.call.message.slice(0, 200)}` : ''}</div>`}
  </div>`;
}

/** @param {Call} call @returns {[string, string][]} */
function timesOf(call) {
  const streamed = call.first !== null && call.first !== undefined && call.run !== null;
  /** @type {[string, number | null][]} */
  const all = [
    ['Waited', call.queue], ['Process', call.spawn], ['Imports', call.imports], ['Setup', call.setup],
    [streamed ? 'First part' : 'Ran', streamed ? call.first : call.run],
    ['Streamed', streamed ? Number(call.run) - Number(call.first) : null],
  ];
  const shown = all.filter(([, seconds]) => seconds !== null && seconds !== undefined && seconds > 0);
  shown.push(['Total', call.ended - call.arrived]);
  return shown.map(([name, seconds]) => [name, duration(seconds)]);
}
