// A browser for each user: /start, /action, /end.
import type { Inference } from '@inferencesh/sdk';
import { Router } from 'express';
import { isSessionGone } from '../lib/session-gone.ts';

const APP = 'browser-automation';

export function browserApi(client: Inference, timeout: number): Router {
  const router = Router();
  // Store sessions per user
  const userSessions = new Map<string, string>();

  router.post('/start', async (req, res) => {
    const userId = req.user.id;
    const sessionId = await start(req.body?.url);

    const before = userSessions.get(userId);
    userSessions.set(userId, sessionId);
    if (before) await client.sessions.end(before);
    res.json({ sessionId });
  });

  router.post('/action', async (req, res) => {
    const userId = req.user.id;
    const sessionId = userSessions.get(userId);

    if (!sessionId) {
      res.status(400).json({ error: 'No active session' });
      return;
    }

    try {
      const result = await client.run({ app: APP, input: req.body ?? {}, session: sessionId });
      res.json(result.output);
    } catch (e) {
      if (!isSessionGone(e)) throw e;
      // Another request of this user may have started the next one already.
      if (userSessions.get(userId) === sessionId) userSessions.delete(userId);
      res.status(400).json({ error: 'Session expired' });
    }
  });

  router.post('/end', async (req, res) => {
    const userId = req.user.id;
    const sessionId = userSessions.get(userId);
    userSessions.delete(userId);
    // Forgotten alone, its browser would stay open until the idle timeout.
    if (sessionId) await client.sessions.end(sessionId);
    res.json({ ok: true });
  });

  async function start(url: unknown): Promise<string> {
    let sessionId: string | undefined;
    try {
      const result = await client.run(
        { app: APP, input: { action: 'start', url }, session: 'new', session_timeout: timeout },
        { onUpdate: (task) => (sessionId = task.session_id) },
      );
      return result.session_id!;
    } catch (e) {
      // The page could not be loaded, but its browser is open.
      if (sessionId) await client.sessions.end(sessionId).catch(() => undefined);
      throw e;
    }
  }

  return router;
}
