// A session that was ended, or has expired, behind its user's back: the manager opens another.
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../lib/gateway.ts';
import { SessionManager } from './session-manager.ts';

const WAIT_MS = 10_000;

const manager = new SessionManager(client, 'counter', 1);

const first = await manager.run({ action: 'process' });
console.log(`session ${first.session_id}: ${first.output.n}`);

await client.sessions.end(first.session_id!);
const second = await manager.run({ action: 'process' });
console.log(`session ${second.session_id}: ${second.output.n}, after the first was ended`);

await expired(second.session_id!);
const third = await manager.run({ action: 'process' });
console.log(`session ${third.session_id}: ${third.output.n}, after the second has expired`);

await client.sessions.end(third.session_id!);

async function expired(sessionId: string): Promise<void> {
  const until = performance.now() + WAIT_MS;
  while (((await client.sessions.get(sessionId)).data.status as string) !== 'expired') {
    if (performance.now() > until) throw new Error(`${sessionId} has not expired within ${WAIT_MS} ms`);
    await sleep(100);
  }
}
