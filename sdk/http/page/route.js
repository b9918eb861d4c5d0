// @ts-check
/** Where the page is: its fragment is `#/`, `#/session/ID` or `#/try/APP?session=ID`. */

/** @typedef {{ view: 'sessions' | 'session' | 'try', name: string, query: Record<string, string> }} Route */

/** @param {string} fragment with its `#`, as `location.hash` is @returns {Route} */
export function parseRoute(fragment) {
  const [path, query = ''] = fragment.replace(/^#\/?/, '').split('?', 2);
  const [view, ...rest] = path.split('/');
  const name = decode(rest.join('/'));
  const asked = Object.fromEntries(new URLSearchParams(query));
  if (view === 'session' && name) return { view, name, query: asked };
  if (view === 'try') return { view, name, query: asked };
  return { view: 'sessions', name: '', query: asked };
}

/** @param {string} id */
export function sessionRoute(id) {
  return `#/session/${encodeURIComponent(id)}`;
}

/** @param {string} app @param {Record<string, string>} [query] */
export function tryRoute(app, query = {}) {
  const asked = new URLSearchParams(query).toString();
  return `#/try/${encodeURIComponent(app)}${asked ? `?${asked}` : ''}`;
}

/**
 * The key that `warmd open` put behind the address.
 * @param {string} fragment
 * @returns {{ key: string, rest: string } | null} `rest`: the fragment without it
 */
export function keyInFragment(fragment) {
  const asked = new URLSearchParams(fragment.replace(/^#/, ''));
  const key = fragment.startsWith('#key=') ? asked.get('key') : null;
  return key ? { key, rest: '#/' } : null;
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
