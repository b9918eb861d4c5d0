// @ts-check
import { Ending } from './ending.js';
import { Frame } from './frame.js';
import { takeKey } from './key.js';
import { Notices } from './notices.js';
import { Store } from './store.js';
import { applyTheme } from './theme.js';
import { Context, h, html } from './ui.js';
import { render } from './vendor/htm-preact-standalone.module.js';

takeKey();
applyTheme();
const store = new Store();
const notices = new Notices();
const services = { store, notices, ending: new Ending(store, notices) };
window.addEventListener('hashchange', () => {
  const key = takeKey();
  if (key) store.signIn(key);
});
store.start();
const place = /** @type {HTMLElement} */ (document.getElementById('page'));
render(h(Context.Provider, { value: services }, html`<${Frame} />`), place);
