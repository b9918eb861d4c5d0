// @ts-check
/** The key: it comes behind the address once, and is kept for this tab alone. */

import { keyInFragment } from './route.js';

const NAME = 'warmd.key';

/** Takes a key out of the address before anything else sees it. @returns {string} empty where there is none */
export function takeKey() {
  const found = keyInFragment(location.hash);
  if (!found) return '';
  keep(found.key);
  history.replaceState(null, '', `${location.pathname}${location.search}${found.rest}`);
  return found.key;
}

export function storedKey() {
  return sessionStorage.getItem(NAME) ?? '';
}

/** @param {string} key */
export function keep(key) {
  if (key) sessionStorage.setItem(NAME, key);
  else sessionStorage.removeItem(NAME);
}
