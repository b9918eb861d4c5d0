// @ts-check
/** Requests to the gateway, with the key; what goes wrong is told in its words. */

import { linesOf, textOf } from './ndjson.js';

/**
 * @typedef {import('./types.js').AppDescription} AppDescription
 * @typedef {import('./types.js').Task} Task
 */

export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} detail */
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

const PAGE = new URL('.', document.baseURI);

export class Api {
  /** @param {string} key */
  constructor(key) {
    this.key = key;
    /** @type {Map<string, Promise<AppDescription>>} */
    this._described = new Map();
  }

  /**
   * @param {string} method
   * @param {string} path relative to the page
   * @param {{ body?: unknown, signal?: AbortSignal, accept?: string }} [options]
   */
  async ask(method, path, { body, signal, accept = 'application/json' } = {}) {
    /** @type {Record<string, string>} */
    const headers = { Accept: accept, 'X-API-Version': '2' };
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const text = body === undefined ? undefined : JSON.stringify(body);
    const response = await reach(new URL(path, PAGE), { method, headers, body: text, signal, cache: 'no-store' });
    if (!response.ok) throw await problem(response);
    return response;
  }

  /** @param {string} method @param {string} path @param {unknown} [body] @returns {Promise<any>} */
  async json(method, path, body) {
    const response = await this.ask(method, path, { body });
    if (response.status === 204) return null;
    const value = await response.json();
    return value?.success === true && 'data' in value ? value.data : value;
  }

  /** @param {string} path @param {AbortSignal} signal */
  async *lines(path, signal) {
    const response = await this.ask('GET', path, { signal, accept: 'application/x-ndjson' });
    if (response.body) yield* linesOf(response.body);
  }

  /** @param {string} path @param {AbortSignal} signal */
  async *text(path, signal) {
    const response = await this.ask('GET', path, { signal, accept: 'text/plain' });
    if (response.body) yield* textOf(response.body);
  }

  /** @returns {Promise<{ name: string }[]>} */
  apps() {
    return this.json('GET', 'apps');
  }

  /** @param {string} app @returns {Promise<AppDescription>} */
  describe(app) {
    const known = this._described.get(app);
    if (known) return known;
    const asked = this.json('GET', `apps/${encodeURIComponent(app)}`);
    this._described.set(app, asked);
    asked.catch(() => this._described.delete(app));
    return asked;
  }

  /** @param {Record<string, unknown>} what @returns {Promise<Task>} */
  run(what) {
    return this.json('POST', 'apps/run', what);
  }

  /** @param {string} task */
  cancel(task) {
    return this.json('POST', `tasks/${encodeURIComponent(task)}/cancel`);
  }

  /** What its session printed, and the traceback of its error. @param {string} task @returns {Promise<{ content: string }[]>} */
  logs(task) {
    return this.json('GET', `tasks/${encodeURIComponent(task)}/logs`);
  }

  /** @param {string} id */
  keepAlive(id) {
    return this.json('POST', `sessions/${encodeURIComponent(id)}/keepalive`);
  }

  /** @param {string} id */
  end(id) {
    return this.json('DELETE', `sessions/${encodeURIComponent(id)}`);
  }

  /** @param {File} file @returns {Promise<string>} the address to put into an input */
  async upload(file) {
    const type = file.type || 'application/octet-stream';
    const announced = { filename: file.name, content_type: type, size: file.size };
    const [{ uri, upload_url: target }] = await this.json('POST', 'files', { files: [announced] });
    const response = await reach(new URL(target, PAGE), { method: 'PUT', headers: { 'Content-Type': type }, body: file });
    if (!response.ok) throw await problem(response);
    return uri;
  }
}

/** @param {URL} url @param {RequestInit} request */
async function reach(url, request) {
  try {
    return await fetch(url, request);
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw new ApiError(0, 'GATEWAY_UNREACHABLE', 'The gateway does not answer. Is `warmd http` still running?');
  }
}

/** @param {Response} response */
async function problem(response) {
  const text = await response.text();
  try {
    const told = JSON.parse(text);
    return new ApiError(response.status, told.code ?? '', told.detail ?? told.title ?? text);
  } catch {
    return new ApiError(response.status, '', text.slice(0, 500) || `HTTP ${response.status}`);
  }
}
