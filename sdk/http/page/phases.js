// @ts-check
/** The states of a session: what they are called, how they are coloured, how they sort. */

/** @typedef {import('./types.js').Row} Row */

const ORDER = ['busy', 'unparking', 'looking_up', 'placing', 'starting', 'idle', 'parking', 'parked', 'stopping', 'gone'];
const OVER = ['ended', 'expired', 'died'];
/** @type {Record<string, string>} */
const TONES = {
  busy: 'busy', idle: 'idle', starting: 'starting', looking_up: 'starting', placing: 'starting', unparking: 'starting',
  parking: 'quiet', parked: 'quiet', stopping: 'quiet',
  died: 'died', ended: 'quiet', expired: 'quiet', gone: 'quiet',
};

/** @param {string} state */
export function isOver(state) {
  return OVER.includes(state);
}

/** A state in words. @param {string} state */
export function stateWord(state) {
  return state.replaceAll('_', ' ');
}

/** The tone that a state is shown in; one that is not known is quiet. @param {string} state */
export function tone(state) {
  return TONES[state] ?? 'quiet';
}

/** Its place in a list sorted by state; unknown ones come last, by name. @param {string} state */
export function stateOrder(state) {
  const place = [...ORDER, ...OVER].indexOf(state);
  return `${String(place < 0 ? 99 : place).padStart(2, '0')}${state}`;
}

/** @param {Row} row */
export function isRunning(row) {
  return row.running !== null && row.running !== undefined;
}

/** Whether calls can name it: workers of the pool and spares have no address of their own. @param {Row} row */
export function isSession(row) {
  return row.kind === 'session';
}

/** Whether it can be kept alive or ended by whoever sees it. @param {Row} row */
export function isAlive(row) {
  return !isOver(row.state) && row.state !== 'stopping' && row.state !== 'gone';
}

/** What a row is, where that is not plain: `shared pool`, `spare`. @param {Row} row */
export function kindWord(row) {
  return row.kind === 'pool' ? 'shared pool' : row.kind === 'session' ? '' : row.kind;
}
