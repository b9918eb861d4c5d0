// @ts-check
/** Terminal colours in logs: a line as parts, each with a style's name; other sequences are dropped. */

/** @typedef {{ text: string, style: string }} Part */

// eslint-disable-next-line no-control-regex
const SEQUENCE = /\x1b(?:\[([0-9;:?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])/g;
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f]/g;
const COLOURS = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];

/** @param {string} line @returns {Part[]} */
export function partsOf(line) {
  const shown = lastWritten(line);
  if (!shown.includes('\x1b')) return [{ text: shown.replace(CONTROL, ''), style: '' }];
  const parts = /** @type {Part[]} */ ([]);
  const style = { colour: '', bold: false };
  let at = 0;
  for (const match of shown.matchAll(SEQUENCE)) {
    add(parts, shown.slice(at, match.index), style);
    at = match.index + match[0].length;
    if (match[2] === 'm') restyle(style, match[1]);
  }
  add(parts, shown.slice(at), style);
  return parts;
}

/** What a bar that draws over itself has written last. @param {string} line */
function lastWritten(line) {
  const writes = line.replace(/\r+$/, '').split('\r');
  return writes[writes.length - 1];
}

/** @param {Part[]} parts @param {string} text @param {{ colour: string, bold: boolean }} style */
function add(parts, text, style) {
  const plain = text.replace(CONTROL, '');
  if (plain) parts.push({ text: plain, style: [style.colour, style.bold ? 'bold' : ''].filter(Boolean).join(' ') });
}

/** @param {{ colour: string, bold: boolean }} style @param {string} codes */
function restyle(style, codes) {
  for (const code of codes.split(/[;:]/).map(Number)) {
    if (code === 0) Object.assign(style, { colour: '', bold: false });
    else if (code === 1) style.bold = true;
    else if (code === 22) style.bold = false;
    else if (code === 39) style.colour = '';
    else if (code >= 30 && code <= 37) style.colour = COLOURS[code - 30];
    else if (code >= 90 && code <= 97) style.colour = COLOURS[code - 90];
    else if (code === 38 || code === 48) return; // what follows are numbers of a colour, not codes
  }
}
