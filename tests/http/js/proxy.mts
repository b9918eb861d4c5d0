// As in a browser, and in the React hook: no key, each request goes to one address.
import { inference } from '@inferencesh/sdk';
import { gate, scenario, stepByStep, url } from './common.mts';

const client = inference({ proxyUrl: `${url}/api/inference/proxy` });

await scenario('a session', async () => {
  const first: any = await client.run({ app: 'zoo', input: {}, session: 'new', session_timeout: 20 });
  const second: any = await client.run({ app: 'zoo', input: {}, session: first.session_id });
  const info: any = (await client.sessions.get(first.session_id)).data;
  await client.sessions.end(first.session_id);
  const gone: any = await client.run({ app: 'zoo', input: {}, session: first.session_id }).catch((e: any) => e);
  return [second.output.n, info.status, gone.message?.includes('session')];
});

await scenario('a stream', async () => {
  const outputs: any[] = [];
  const task: any = await client.run(
    { app: 'zoo', function: 'step_by_step', input: { n: 3, folder: gate('') }, session: 'new' },
    {
      onUpdate: stepByStep(outputs),
    },
  );
  return [task.output.i, outputs];
});

await scenario('polled', async () => {
  const task: any = await client.run({ app: 'zoo:echo', input: { x: 1 } }, { stream: false, pollIntervalMs: 20 });
  return task.output;
});

await scenario('a Blob', async () => {
  const input = { path: new Blob(['from a blob'], { type: 'text/plain' }) };
  const task: any = await client.run({ app: 'filer', function: 'read', input });
  return task.output.text;
});
