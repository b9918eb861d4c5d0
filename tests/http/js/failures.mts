import { client, gate, newSession, open, scenario, until } from './common.mts';

await scenario('an app error', () =>
  client.run({ app: 'zoo', function: 'raise_error', input: { text: 'no such row' }, session: 'new' }));

await scenario('an app error, polled', () =>
  client.run({ app: 'zoo', function: 'raise_error', input: { text: 'no such row' }, session: 'new' }, { stream: false, pollIntervalMs: 20 }));

await scenario('a death', () => client.run({ app: 'zoo', function: 'die', input: {}, session: 'new' }));

for (const stream of [true, false]) {
  await scenario(`a cancel, ${stream ? 'streamed' : 'polled'}`, async () => {
    const path = gate(`cancel-${stream}`);
    const task: any = await client.run({ app: 'zoo', function: 'wait_for', input: { path }, session: 'new' }, { wait: false });
    const { done } = client.tasks.watch(task, { stream, pollIntervalMs: 20 });
    const [end] = await Promise.allSettled([done, client.cancel(task.id)]);
    open(path);
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}

await scenario('an unknown app', () => client.run({ app: 'nix', input: {} }));
await scenario('an unknown field', () => client.run({ app: 'zoo', input: {}, sesion: 'new' } as any));
await scenario('an unknown task', () => client.tasks.get('task_1'));
await scenario('a session that never was', () => client.run({ app: 'zoo', input: {}, session: 'sess_1' }));

await scenario('a session that ended', async () => {
  const session = await newSession();
  await client.sessions.end(session);
  return client.run({ app: 'zoo', input: {}, session });
});

await scenario('a session that expired', async () => {
  const session = await newSession(1);
  await until(async () => ((await client.sessions.get(session)) as any).data.status === 'expired');
  return client.run({ app: 'zoo', input: {}, session });
});

await scenario('a keepalive of a session that is gone', async () => {
  const session = await newSession();
  await client.sessions.end(session);
  return client.sessions.keepalive(session);
});
