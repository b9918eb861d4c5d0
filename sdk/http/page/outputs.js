// @ts-check
/** What runs give: files anywhere in it, and parts that are pieces of one text. */

/** @typedef {{ uri: string, content_type: string, size: number, filename: string }} FileOutput */

/** @param {any} value @returns {value is FileOutput} */
export function isFile(value) {
  return typeof value === 'object' && value !== null && typeof value.uri === 'string' && typeof value.content_type === 'string';
}

/** @param {any} value @param {number} [depth] @returns {FileOutput[]} */
export function filesIn(value, depth = 0) {
  if (typeof value !== 'object' || value === null || depth > 20) return [];
  if (isFile(value)) return [value];
  return Object.values(value).flatMap((each) => filesIn(each, depth + 1));
}

/** How a file is shown. @param {FileOutput} file @returns {'image' | 'audio' | 'video' | 'link'} */
export function shownAs(file) {
  const kind = file.content_type.split('/')[0];
  return kind === 'image' || kind === 'audio' || kind === 'video' ? kind : 'link';
}

/** Whether a file can be had there: apps may give any address, also one that runs a script. @param {string} uri */
export function isAddress(uri) {
  return /^(https?:|blob:|data:image\/)/i.test(uri);
}

/** A piece of a text, where a part is no more than that; else null. @param {any} part */
export function delta(part) {
  if (typeof part === 'string') return part;
  if (typeof part !== 'object' || part === null || typeof part.text !== 'string') return null;
  return Object.keys(part).length === 1 ? part.text : null;
}

/**
 * Pieces of text: joined as they are, a line each, and whether white space parts them.
 * @typedef {{ plain: string, lines: string, last: string, many: boolean, spaced: boolean, grown: boolean }} Joined
 */

/**
 * A piece that begins with all that came before is the whole text as it grew.
 * @param {Joined | null | undefined} before
 * @param {string} piece
 * @param {number} most characters, the last
 * @returns {Joined}
 */
export function joined(before, piece, most) {
  const spaced = /^\s|\s$/.test(piece);
  const text = piece.slice(-most);
  const fresh = { plain: text, lines: text, last: text, many: false, spaced, grown: false };
  if (!before?.plain) return fresh;
  const longer = piece.length - before.plain.length;
  if ((longer > 0 || (longer === 0 && before.grown)) && piece.startsWith(before.plain)) return { ...fresh, grown: true };
  const [plain, lines] = [before.plain + piece, `${before.lines}\n${piece}`].map((each) => each.slice(-most));
  return { plain, lines, last: text, many: true, spaced: spaced || before.spaced, grown: false };
}

/**
 * The pieces as a text to read: where no white space parts them, a line each, unless the output joins them, too.
 * @param {Joined} pieces
 * @param {any} output
 */
export function readable(pieces, output) {
  const { plain, lines, many, spaced } = pieces;
  return many && !spaced && delta(output) !== plain ? lines : plain;
}

/** JSON for reading, with files by name alone. @param {any} value */
export function pretty(value) {
  const text = JSON.stringify(value, (_name, each) => (isFile(each) ? `(file ${each.filename ?? ''})` : each), 2);
  return text ?? 'null';
}
