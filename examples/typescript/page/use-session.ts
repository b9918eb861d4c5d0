import { useCallback, useRef, useState } from 'react';
import { inference } from '@inferencesh/sdk';
import { isSessionGone } from '../lib/session-gone.ts';

/** One session of an app: opened by the first `run`, used by those that follow. */
export function useSession(app: string, timeout = 300) {
  const [sessionId, setSessionId] = useState<string | null>(null);
  const [loading, setLoading] = useState(false);
  const [expired, setExpired] = useState(false);
  const clientRef = useRef(inference({ proxyUrl: '/api/inference/proxy' }));

  const run = useCallback(async (input: unknown) => {
    setLoading(true);
    setExpired(false);

    try {
      const isNew = !sessionId;
      return await clientRef.current.run({
        app,
        input,
        session: isNew ? 'new' : sessionId,
        ...(isNew && { session_timeout: timeout }),
      }, {
        // Not only at the end: also a session whose first call fails is there, to be used or ended.
        onUpdate: (task) => setSessionId(task.session_id ?? null),
      });
    } catch (e) {
      if (isSessionGone(e)) {
        // Session expired
        setSessionId(null);
        setExpired(true);
      }
      throw e;
    } finally {
      setLoading(false);
    }
  }, [app, sessionId, timeout]);

  const reset = useCallback(() => {
    setSessionId(null);
    setExpired(false);
  }, []);

  const end = useCallback(async () => {
    if (sessionId) await clientRef.current.sessions.end(sessionId);
    reset();
  }, [sessionId, reset]);

  return { sessionId, loading, expired, run, reset, end };
}
