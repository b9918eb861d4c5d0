// @ts-check
/** Light or dark: the system's choice, unless somebody has chosen here; and the colours for canvases. */

const NAME = 'warmd.theme';
/** @type {Set<() => void>} */
const watchers = new Set();
/** @type {Record<string, string> | null} */
let colours = null;

function chosen() {
  const kept = localStorage.getItem(NAME);
  return kept === 'light' || kept === 'dark' ? kept : '';
}

export function applyTheme() {
  document.documentElement.dataset.theme = chosen();
  colours = null;
  for (const watcher of watchers) watcher();
}

export function isDark() {
  return chosen() ? chosen() === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

export function turnTheme() {
  localStorage.setItem(NAME, isDark() ? 'light' : 'dark');
  applyTheme();
}

/** @param {() => void} watcher @returns {() => void} */
export function watchTheme(watcher) {
  watchers.add(watcher);
  return () => void watchers.delete(watcher);
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', applyTheme);

const CANVAS_COLOURS = ['text', 'muted', 'line', 'surface', 'hover', 'queue', 'cold', 'warm', 'stream', 'failed', 'focus'];

/** The style sheet's colours as a canvas takes them. @returns {Record<string, string>} */
export function palette() {
  if (colours) return colours;
  const probe = document.createElement('span');
  document.body.append(probe);
  colours = {};
  for (const name of CANVAS_COLOURS) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colours;
}
