// @ts-check
/** Cold against warm: what keeping sessions is worth, an app at a time. */

import { count, duration, factor } from './format.js';
import { Scatter } from './scatter.js';
import { coldAgainstWarm } from './stats.js';
import { html, Legend, memo, useEffect, useServices, useState } from './ui.js';

/**
 * @typedef {import('./stats.js').AppStats} AppStats
 * @typedef {import('./stats.js').Summary} Summary
 */

const REFRESH_MS = 2000;
/** With fewer, a median says little. */
const FEW_CALLS = 5;
/** @type {[string, string][]} */
const COLOURS = [['cold', 'cold: start and run'], ['warm', 'warm: run']];
const COLUMNS = ['calls', 'median', 'p90'];

export function Warmth() {
  const stats = useStats();
  const all = stats.filter((each) => each.cold.count + each.warm.count > 0);
  if (!all.length) return null;
  return html`<section class="panel warmth" aria-labelledby="warmth-title">
    <div class="panel-head"><h2 id="warmth-title">Cold against warm</h2>
      <span class="muted">in the session, without the way there</span><${Legend} of=${COLOURS} /></div>
    <div class="cards">${all.map((each) => html`<${Card} key=${each.app} stats=${each} />`)}</div>
  </section>`;
}

/** Worked out anew when calls have come, and not with each drawing. @returns {AppStats[]} */
function useStats() {
  const { store } = useServices();
  const [stats, tell] = useState(() => coldAgainstWarm(store.model.calls));
  useEffect(() => {
    let at = performance.now();
    let added = store.model.calls.added;
    return store.watch(() => {
      const { calls } = store.model;
      if (calls.added === added || performance.now() - at < REFRESH_MS) return;
      at = performance.now();
      added = calls.added;
      tell(coldAgainstWarm(calls));
    });
  }, [store]);
  return stats;
}

const Card = memo(AppCard, (before, after) => same(before.stats.points, after.stats.points));

/** @param {AppStats['points']} before @param {AppStats['points']} after */
function same(before, after) {
  return before.length === after.length && before[before.length - 1]?.at === after[after.length - 1]?.at;
}

/** @param {{ stats: AppStats }} props */
function AppCard({ stats }) {
  return html`<article class="card" aria-label=${stats.app}>
    <header><h3>${stats.app}</h3>${verdict(stats)}</header>
    <table class="figures-table num">
      <thead><tr><th scope="col"><span class="hidden">Kind</span></th>
        ${COLUMNS.map((each) => html`<th key=${each} scope="col">${each}</th>`)}</tr></thead>
      <tbody><${Line} name="cold" of=${stats.cold} /><${Line} name="warm" of=${stats.warm} /></tbody></table>
    <${Scatter} stats=${stats} />
  </article>`;
}

/** @param {AppStats} stats */
function verdict({ factor: times, warm, cold }) {
  if (times === null) return html`<p class="muted">${warm.count ? 'no cold call yet' : cold.count ? 'no warm call yet' : ''}</p>`;
  if (warm.count < FEW_CALLS) return html`<p class="muted">few warm calls yet</p>`;
  if (times < 1.1) return html`<p class="muted">warm is no sooner</p>`;
  return html`<p>warm is <strong class="num">${factor(times)}</strong> sooner</p>`;
}

/** @param {{ name: string, of: Summary }} props */
function Line({ name, of }) {
  return html`<tr><th scope="row"><span class=${`swatch ${name}`} aria-hidden="true"></span>${name}</th>
    <td>${count(of.count)}</td><td>${duration(of.median)}</td><td>${duration(of.p90)}</td></tr>`;
}
