// @ts-check
/** The frame around the views: header, connection, banners, and which view is shown. */

import { EndQuestion } from './ending.js';
import { span } from './format.js';
import { NoticeList } from './notices.js';
import { parseRoute } from './route.js';
import { SessionView } from './session-view.js';
import { SessionsView } from './sessions-view.js';
import { SignIn } from './sign-in.js';
import { isDark, turnTheme, watchTheme } from './theme.js';
import { TryView } from './try-view.js';
import { html, inline, State, useEffect, useRef, useState, useStore } from './ui.js';

/**
 * @typedef {import('./model.js').Model} Model
 * @typedef {import('./model.js').Link} Link
 * @typedef {import('./route.js').Route} Route
 * @typedef {import('./store.js').Store} Store
 */

export function Frame() {
  const store = useStore();
  const route = useRoute();
  const { model } = store;
  const refused = model.link === 'refused';
  useTitle(route, refused);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <${Header} store=${store} view=${route.view} refused=${refused} />
    ${!refused && html`<${Banner} model=${model} />`}
    <main id="main" tabindex="-1" class=${isStale(model) ? 'stale' : ''}>
      ${refused ? html`<${SignIn} />` : html`<${View} route=${route} model=${model} />`}
    </main>
    <${NoticeList} />
    <${EndQuestion} />`;
}

/** @param {{ route: Route, model: Model }} props */
function View({ route, model }) {
  if (model.link === 'connecting' && !model.gateway) return html`<p class="waiting" role="status">Connecting to the gateway…</p>`;
  if (!model.gateway) return html`<div class="waiting"></div>`;
  if (route.view === 'session') return html`<${SessionView} key=${route.name} id=${route.name} />`;
  if (route.view === 'try') return html`<${TryView} app=${route.name} query=${route.query} />`;
  return html`<${SessionsView} />`;
}

/** @param {MouseEvent} event */
function skip(event) {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

/** @returns {Route} */
function useRoute() {
  const [route, go] = useState(() => parseRoute(location.hash));
  const view = useRef(route.view);
  useEffect(() => {
    const follow = () => {
      const next = parseRoute(location.hash);
      go(next);
      if (next.view === view.current) return;
      view.current = next.view;
      window.scrollTo(0, 0);
      // The link that was followed is gone: without this, the keyboard would begin at the top again.
      document.getElementById('main')?.focus({ preventScroll: true });
    };
    window.addEventListener('hashchange', follow);
    return () => window.removeEventListener('hashchange', follow);
  }, []);
  return route;
}

/** @param {Route} route @param {boolean} refused */
function useTitle(route, refused) {
  const name = refused ? 'Sign in' : { sessions: 'Sessions', session: 'Session', try: 'Try it' }[route.view];
  useEffect(() => {
    document.title = `${name} – warmd`;
  }, [name]);
}

/** @param {{ store: Store, view: string, refused: boolean }} props */
function Header({ store, view, refused }) {
  const { model } = store;
  const here = (/** @type {string} */ name) => (view === name ? 'page' : undefined);
  return html`<header class="top">
    <a class="brand" href="#/"><${Logo} /><span class="brand-word">warmd</span>
      <span class="version num">${model.daemon?.version ?? ''}</span></a>
    ${!refused && html`<nav aria-label="Views">
      <a href="#/" aria-current=${here('sessions')}>Sessions</a>
      ${model.may('run') && html`<a href=${store.tried} aria-current=${here('try')}>Try it</a>`}
    </nav>`}
    <div class="top-end">
      ${!refused && html`<${Connection} model=${model} />`}
      ${!refused && store.api.key && html`<button class="plain" onClick=${() => store.signIn('')}>Sign out</button>`}
      <${ThemeButton} />
    </div>
  </header>`;
}

function Logo() {
  return html`<svg class="logo" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
    <rect width="32" height="32" rx="8" /><path d="M7.5 12.5v4a4.25 4.25 0 0 0 8.5 0v-2.5m0 2.5a4.25 4.25 0 0 0 8.5 0v-4" /></svg>`;
}

function ThemeButton() {
  const [, turn] = useState(0);
  useEffect(() => {
    let count = 0;
    return watchTheme(() => turn((count += 1)));
  }, []);
  const label = isDark() ? 'Light theme' : 'Dark theme';
  return html`<button class="plain icon" onClick=${turnTheme} aria-label=${label} title=${label}>
    <svg viewBox="0 0 20 20" width="17" height="17" aria-hidden="true">
      <circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.6" />
      <path d="M10 3a7 7 0 0 1 0 14z" fill="currentColor" /></svg>
  </button>`;
}

/** @type {Record<Link, [string, string]>} */
const LINKS = {
  connecting: ['quiet', 'Connecting'],
  live: ['idle', 'Live'],
  'daemon-lost': ['died', 'Daemon lost'],
  'gateway-lost': ['died', 'Gateway lost'],
  refused: ['quiet', 'Signed out'],
};

/** @param {{ model: Model }} props */
function Connection({ model }) {
  const [tone, words] = LINKS[model.link];
  const who = model.gateway?.open ? 'open to all' : model.gateway?.key ?? '';
  return html`<span class="connection" role="status"><${State} tone=${tone}>${words}<//>
    ${who && html`<span class="who">${who}</span>`}</span>`;
}

/** @param {Model} model */
function isStale(model) {
  return (model.link === 'daemon-lost' || model.link === 'gateway-lost') && model.gateway !== null;
}

const REMEDY = /: start (it there|one) with `warmd start`.*$/;

/** What was told of it, as a sentence; what to do about it is said in the page's own words. @param {Model} model */
function whyLost({ detail }) {
  const text = detail.replace(REMEDY, '').trim();
  return /[^.!?…]$/.test(text) ? `${text[0].toUpperCase()}${text.slice(1)}.` : text;
}

/** @param {Model} model */
function whatNow(model) {
  const start = model.link === 'daemon-lost' ? '`warmd start` starts it again. ' : '';
  return `${start}${isStale(model) ? 'Below is what was known last; this' : 'This'} page finds it again by itself.`;
}

/** @param {{ model: Model }} props */
function Banner({ model }) {
  const lostFor = model.lostAt ? `for ${span(Date.now() / 1000 - model.lostAt)}` : '';
  const lost = { 'daemon-lost': 'daemon', 'gateway-lost': 'gateway' }[/** @type {string} */ (model.link)];
  if (lost) {
    return html`<div class="banner bad" role="alert"><strong>The ${lost} does not answer.</strong>
      <span>${inline([whyLost(model), whatNow(model)].filter(Boolean).join(' '))}</span>
      <span class="num muted" aria-hidden="true">${lostFor}</span></div>`;
  }
  if (!model.daemon?.draining) return null;
  return html`<div class="banner" role="status"><strong>The daemon is stopping.</strong>
    <span>Running calls may finish, new ones are refused.</span></div>`;
}
