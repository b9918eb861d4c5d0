import { inference } from '@inferencesh/sdk';
import { client, gate, newSession, open, scenario, stepByStep, url } from './common.mts';

await scenario('a session is opened and used', async () => {
  const first: any = await client.run({ app: 'zoo', input: { a: 1 }, session: 'new', session_timeout: 25, setup: { size: 3 } });
  const second: any = await client.run({ app: 'zoo', input: { a: 2 }, session: first.session_id });
  return { first: first.output, second: second.output, same: first.session_id === second.session_id, status: second.status };
});

await scenario('without a session', async () => {
  const task: any = await client.run({ app: 'me/zoo@latest:echo', input: { said: [1, null, 'x'] } });
  return task.output;
});

await scenario('not waited for', async () => {
  const path = gate('not-waited-for');
  const task: any = await client.run({ app: 'zoo', function: 'wait_for', input: { path }, session: 'new' }, { wait: false });
  const before: any = (await client.tasks.get(task.id)).data;
  open(path);
  const after: any = await client.tasks.watch(task).done;
  return { answer: task.status, before: before.output, after: after.output };
});

await scenario('parts are updates', async () => {
  const outputs: any[] = [];
  let partial = 0;
  const task: any = await client.run(
    { app: 'zoo', function: 'step_by_step', input: { n: 3, folder: gate('') }, session: 'new' },
    {
      onUpdate: stepByStep(outputs),
      onPartialUpdate: () => { partial += 1; },
    },
  );
  return { outputs, partial, output: task.output, session: typeof task.session_id, input: task.input.n };
});

await scenario('many parts', async () => {
  let updates = 0;
  const task: any = await client.run(
    { app: 'zoo', function: 'count_up', input: { n: 2000, after: gate('followed') }, session: 'new' },
    { onUpdate: () => { updates += 1; open(gate('followed')); } },
  );
  return { output: task.output, updates };
});

await scenario('polled', async () => {
  const statuses: number[] = [];
  const session = await newSession();
  const task: any = await client.run(
    { app: 'zoo', input: {}, session },
    { stream: false, pollIntervalMs: 20, onUpdate: (update: any) => statuses.push(update.status) },
  );
  return { output: task.output.n, last: statuses.at(-1) };
});

await scenario('polled many times', async () => {
  const session = await newSession();
  const polling = inference({ apiKey: 'k', baseUrl: url, stream: false, pollIntervalMs: 5 } as any);
  let last: any;
  for (let i = 0; i < 20; i += 1) last = await polling.run({ app: 'zoo', input: {}, session });
  return last.output.n;
});

await scenario('events', async () => {
  const path = gate('events');
  const task: any = await client.run({ app: 'zoo', function: 'wait_for', input: { path }, session: 'new' }, { wait: false });
  const source: any = await client.streamTask(task.id);
  const statuses: number[] = [];
  const done: any = await new Promise((resolve, reject) => {
    source.addEventListener('update', (event: any) => { statuses.push(JSON.parse(event.data).status); open(path); });
    source.addEventListener('done', (event: any) => resolve(JSON.parse(event.data)));
    source.addEventListener('error', reject);
  });
  source.close();
  return { updates: statuses.length > 0, status: done.status, output: done.output };
});

await scenario('a wait in the params', async () => {
  const task: any = await client.run({ app: 'zoo:echo', input: { x: 1 }, wait: true } as any);
  return task.output;
});

await scenario('a Blob', async () => {
  const task: any = await client.run({ app: 'filer', function: 'read', input: { path: new Blob(['from a blob'], { type: 'text/plain' }) } });
  return task.output;
});

await scenario('a data address', async () => {
  const path = 'data:text/plain;base64,aGVsbG8=';
  const task: any = await client.run({ app: 'filer', function: 'read', input: { path } });
  return task.output;
});

await scenario('what looks like base64', async () => {
  const task: any = await client.run({ app: 'zoo:echo', input: { digest: '0123456789abcdef'.repeat(4) } });
  return typeof task.output.digest;
});

await scenario('an output that is a file', async () => {
  const task: any = await client.run({ app: 'zoo', function: 'picture', input: {} });
  const bytes = new Uint8Array(await (await fetch(task.output.image.uri)).arrayBuffer());
  return [bytes.length, bytes[1]];
});
