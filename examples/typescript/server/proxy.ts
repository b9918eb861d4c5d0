// What a page without a key needs of the gateway: its requests, with the key added here, and its files.
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import type { ProxyOptions } from '@inferencesh/sdk/proxy';
import { createHandler } from '@inferencesh/sdk/proxy/express';
import type { RequestHandler } from 'express';

const NOT_PASSED_ON = ['connection', 'content-encoding', 'content-length', 'keep-alive', 'transfer-encoding'];

export function proxy(gatewayUrl: string, key: string): RequestHandler {
  const host = new URL(gatewayUrl).host.replaceAll('.', '\\.');
  // As a variable: the package declares fewer options for Express than it takes.
  const options: ProxyOptions = {
    apiKey: key,
    apiBaseUrl: gatewayUrl,
    allowedDomains: [new RegExp(`^${host}$`)],
  };
  return createHandler(options);
}

/** Screenshots and other files of outputs. Their addresses need no key: each has a secret of its own. */
export function files(gatewayUrl: string): RequestHandler {
  return async (req, res) => {
    const answer = await fetch(new URL(req.originalUrl, gatewayUrl));
    res.status(answer.status);
    answer.headers.forEach((value, name) => {
      if (!NOT_PASSED_ON.includes(name)) res.setHeader(name, value);
    });
    if (!answer.body) return void res.end();
    await pipeline(Readable.fromWeb(answer.body as ReadableStream), res);
  };
}
