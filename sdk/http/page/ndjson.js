// @ts-check

/** Cuts a stream of text into lines as it comes; what has no end yet waits for the rest. */
export class LineSplitter {
  constructor() {
    /** @type {string[]} */
    this._rest = [];
  }

  /** @param {string} text @returns {string[]} the lines that are whole now */
  push(text) {
    const lines = text.split('\n');
    if (lines.length === 1) {
      if (text) this._rest.push(text);
      return [];
    }
    lines[0] = this._rest.join('') + lines[0];
    const rest = /** @type {string} */ (lines.pop());
    this._rest = rest ? [rest] : [];
    return lines.map(withoutReturn);
  }

  /** The last line of a stream that ends without a line feed. */
  end() {
    const rest = this._rest.join('');
    this._rest = [];
    return rest;
  }
}

/** @param {string} line */
function withoutReturn(line) {
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

/**
 * The text of a response's body, as it comes.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string>}
 */
export async function* textOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * The lines of a response's body, without empty ones.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string>}
 */
export async function* linesOf(body) {
  const splitter = new LineSplitter();
  for await (const text of textOf(body)) {
    for (const line of splitter.push(text)) if (line) yield line;
  }
  const last = splitter.end();
  if (last) yield last;
}
