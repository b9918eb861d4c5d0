import type { ErrorRequestHandler } from 'express';

/** Errors as JSON. `detail` is where the inference.sh client looks for the text. */
export const problems: ErrorRequestHandler = (error, _req, res, next) => {
  // In the midst of a stream: the connection is cut, so that its reader hears of it.
  if (res.headersSent) return next(error);
  const text = isUnreachable(error) ? 'The gateway cannot be reached' : String(error.message);
  res.status(isUnreachable(error) ? 502 : (error.status ?? 500)).json({ error: text, detail: text });
};

function isUnreachable(error: Error): boolean {
  return error instanceof TypeError && error.message === 'fetch failed';
}
