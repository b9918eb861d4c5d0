// @ts-check

/**
 * The latest `capacity` items, oldest first; adding is cheap and memory does not grow.
 * @template T
 */
export class Ring {
  /** @param {number} capacity */
  constructor(capacity) {
    this.capacity = capacity;
    /** @type {T[]} */
    this._items = [];
    this._start = 0;
    /** How many were ever added: tells whoever keeps something derived whether it is still right. */
    this.added = 0;
  }

  get length() {
    return this._items.length;
  }

  /** @param {T} item */
  push(item) {
    this.added += 1;
    if (this._items.length < this.capacity) {
      this._items.push(item);
      return;
    }
    this._items[this._start] = item;
    this._start = (this._start + 1) % this.capacity;
  }

  /** @param {number} index from the oldest @returns {T | undefined} */
  at(index) {
    const items = this._items;
    return index < 0 || index >= items.length ? undefined : items[(this._start + index) % items.length];
  }

  clear() {
    this._items = [];
    this._start = 0;
    this.added += 1;
  }

  *[Symbol.iterator]() {
    for (let index = 0; index < this._items.length; index += 1) yield /** @type {T} */ (this.at(index));
  }

  /** Newest first. */
  *newest() {
    for (let index = this._items.length - 1; index >= 0; index -= 1) yield /** @type {T} */ (this.at(index));
  }
}
