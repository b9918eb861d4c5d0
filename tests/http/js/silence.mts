import { client, gate, open, scenario } from './common.mts';

await scenario('a long silence', async () => {
  let updates = 0;
  const path = gate('silence');
  const task: any = await client.run(
    { app: 'zoo', function: 'wait_for', input: { path }, session: 'new' },
    { onUpdate: () => { updates += 1; if (updates === 10) open(path); } },
  );
  return { output: task.output, updates: updates >= 10 };
});
