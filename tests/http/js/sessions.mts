import { client, newSession, scenario, until } from './common.mts';

class SessionManager {
  private client: any;
  private app: string;
  private timeout: number;
  private sessionId: string | null = null;

  constructor(client: any, app: string, timeout = 300) {
    this.client = client;
    this.app = app;
    this.timeout = timeout;
  }

  private async ensureSession(): Promise<string> {
    if (!this.sessionId) {
      const result = await this.client.run({
        app: this.app,
        input: { action: 'init' },
        session: 'new',
        session_timeout: this.timeout
      });
      this.sessionId = result.session_id;
    }
    return this.sessionId;
  }

  async run(input: any) {
    try {
      return await this.client.run({
        app: this.app,
        input,
        session: await this.ensureSession()
      });
    } catch (e: any) {
      if (e.message?.toLowerCase().includes('session')) {
        // Session expired, create new one
        this.sessionId = null;
        return await this.client.run({
          app: this.app,
          input,
          session: await this.ensureSession()
        });
      }
      throw e;
    }
  }
}

await scenario('the manager comes to a new session', async () => {
  const manager = new SessionManager(client, 'zoo', 1);
  const first: any = await manager.run({ action: 'process' });
  await until(async () => ((await client.sessions.get(first.session_id)) as any).data.status === 'expired');
  const second: any = await manager.run({ action: 'process' });
  await client.sessions.end(second.session_id);
  const third: any = await manager.run({ action: 'process' });
  return { counts: [first, second, third].map((task) => task.output.n), sessions: new Set([first, second, third].map((task) => task.session_id)).size };
});

await scenario('the manager leaves an app error alone', async () => {
  const manager: any = new SessionManager(client, 'zoo:raise_error', 20);
  manager.sessionId = await newSession();
  const before = manager.sessionId;
  const error: any = await manager.run({ text: 'no such row' }).catch((e: any) => e);
  return { message: error.message, same: manager.sessionId === before };
});

await scenario('the check of the Express sample', async () => {
  const session = await newSession();
  await client.sessions.end(session);
  const userSessions = new Map([['user', session]]);
  try {
    await client.run({ app: 'zoo', input: {}, session: userSessions.get('user') });
  } catch (e: any) {
    if (e.message?.includes('session')) userSessions.delete('user');
    else throw e;
  }
  return userSessions.size;
});

await scenario('the sessions api', async () => {
  const session = await newSession(20);
  const info: any = (await client.sessions.get(session)).data;
  const listed: any = (await client.sessions.list()).data;
  const kept: any = (await client.sessions.keepalive(session)).data;
  const ended: any = await client.sessions.end(session);
  await client.sessions.end(session);
  const after: any = (await client.sessions.get(session)).data;
  return {
    info: [info.id === session, info.status, info.idle_timeout, info.call_count],
    listed: listed.some((one: any) => one.id === session),
    kept: kept.expires_at >= info.expires_at,
    ended: ended.data ?? null,
    after: after.status,
  };
});

await scenario('many at once in one session', async () => {
  const session = await newSession();
  const tasks: any[] = await Promise.all(
    Array.from({ length: 8 }, () => client.run({ app: 'zoo', input: {}, session })),
  );
  return tasks.map((task) => task.output.n).sort((one, other) => one - other);
});
