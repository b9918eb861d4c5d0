// @ts-check
/** What all views are made of: templates, hooks, the store at hand, and small pieces. */

import { Component, createContext, h, useContext, useEffect, useRef, useState } from './vendor/htm-preact-standalone.module.js';
import htm from './vendor/htm.module.js';

/**
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./notices.js').Notices} Notices
 * @typedef {import('./ending.js').Ending} Ending
 * @typedef {{ store: Store, notices: Notices, ending: Ending }} Services
 */

export { h, useEffect, useRef, useState };

export const html = htm.bind(made);

/**
 * @this {number[]}
 * @param {any} type
 * @param {any} props
 * @param {any[]} children
 */
function made(type, props, ...children) {
  // Elements without values would be made once and kept, and with each of them the tree that it was in first.
  this[0] = 3;
  return h(type, props, ...children);
}

/** @type {any} */
export const Context = createContext(/** @type {any} */ (null));

/** @returns {Services} */
export function useServices() {
  return useContext(Context);
}

/** Draws the component again whenever the store is shown. @returns {Store} */
export function useStore() {
  const { store } = useServices();
  const [, turn] = useState(0);
  useEffect(() => store.watch(() => turn(store.version)), [store]);
  return store;
}

/**
 * A component that is drawn again only when what it is given differs.
 * @template P
 * @param {(props: P) => any} draw
 * @param {(before: P, after: P) => boolean} same
 */
export function memo(draw, same) {
  return class extends Component {
    /** @param {P} next */
    shouldComponentUpdate(next) {
      return !same(/** @type {any} */ (this.props), next);
    }

    render() {
      return h(/** @type {any} */ (draw), /** @type {any} */ (this.props));
    }
  };
}

/**
 * Whether an element can be seen: a canvas that cannot is not drawn, until it can.
 * @param {{ current: Element | null }} element
 * @param {() => void} onShown
 */
export function useVisible(element, onShown) {
  const visible = useRef(true);
  const latest = useRef(onShown);
  latest.current = onShown;
  useEffect(() => {
    if (!element.current) return undefined;
    const observer = new IntersectionObserver((entries) => {
      const shown = entries[entries.length - 1].isIntersecting;
      if (shown && !visible.current) latest.current();
      visible.current = shown;
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return visible;
}

/** @param {{ tone: string, children: any }} props */
export function State({ tone, children }) {
  return html`<span class="state ${tone}"><span class="dot" aria-hidden="true"></span>${children}</span>`;
}

/** Handles an event by what its element holds. @param {(value: string) => void} act */
export function byValue(act) {
  return (/** @type {any} */ event) => act(event.target.value);
}

/**
 * A few buttons of which one is pressed.
 * @param {{ label: string, options: [any, string][], chosen: any, choose: (value: any) => void, disabled?: (value: any) => boolean }} props
 */
export function Segmented({ label, options, chosen, choose, disabled = () => false }) {
  return html`<div class="segmented" role="group" aria-label=${label}>
    ${options.map(([value, words]) => html`<button type="button" key=${value} aria-pressed=${value === chosen}
      disabled=${disabled(value)} onClick=${() => choose(value)}>${words}</button>`)}
  </div>`;
}

/** What colours mean. @param {{ of: [string, string][] }} props */
export function Legend({ of }) {
  return html`<ul class="legend" aria-label="Colours">
    ${of.map(([name, words]) => html`<li key=${name}><span class=${`swatch ${name}`} aria-hidden="true"></span>${words}</li>`)}
  </ul>`;
}

/** Text with `code` in it, in paragraphs. @param {{ text: string }} props */
export function Prose({ text }) {
  const paragraphs = text.split(/\n\s*\n/).filter((each) => each.trim());
  return html`${paragraphs.map((each) => html`<p>${inline(each)}</p>`)}`;
}

/** @param {string} text */
export function inline(text) {
  return text.split(/(`+[^`]+`+)/).map((part) => (part.startsWith('`') ? html`<code>${part.replaceAll('`', '')}</code>` : part));
}

/** @param {{ fraction: number | null, text: string, label: string }} props */
export function Progress({ fraction, text, label }) {
  const value = fraction === null ? undefined : Math.round(fraction * 100);
  return html`<div class="progress">
    ${fraction !== null && html`<div class="track" role="progressbar" aria-label=${label}
        aria-valuemin="0" aria-valuemax="100" aria-valuenow=${value}>
      <div class="fill" style=${{ transform: `scaleX(${fraction})` }}></div></div>`}
    <span class="progress-text num">${text}</span>
  </div>`;
}
