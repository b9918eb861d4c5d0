// Who asks: a cookie with a random name for each browser, signed so that nobody can make one up.
// Put your own sign-in in its place; all that the rest needs is `req.user.id`.
import { createHmac, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import type { RequestHandler } from 'express';

const COOKIE = 'user';
const VALUE = new RegExp(`(?:^|; )${COOKIE}=([0-9a-f-]{36})\\.([0-9a-f]{64})(?:;|$)`);
// Not kept: with the process the users' sessions are forgotten, too.
const secret = randomBytes(32);

declare global {
  namespace Express {
    interface Request {
      user: { id: string };
    }
  }
}

export const users: RequestHandler = (req, res, next) => {
  if (!['none', 'same-origin'].includes(req.get('sec-fetch-site') ?? 'none') && req.method !== 'GET') {
    res.status(403).json({ error: 'Pages of other sites may not ask' });
    return;
  }
  let id = idIn(req.headers.cookie ?? '');
  if (id === null) {
    id = randomUUID();
    res.cookie(COOKIE, `${id}.${signature(id)}`, { httpOnly: true, sameSite: 'lax', secure: req.secure });
  }
  req.user = { id };
  next();
};

function idIn(cookies: string): string | null {
  const [, id, signed] = VALUE.exec(cookies) ?? [];
  if (!id || !signed) return null;
  return timingSafeEqual(Buffer.from(signed), Buffer.from(signature(id))) ? id : null;
}

function signature(id: string): string {
  return createHmac('sha256', secret).update(id).digest('hex');
}
