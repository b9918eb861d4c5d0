// The gateway is stopped while a stream is read: the client must hear of it.
import { client, gate, scenario, tell } from './common.mts';

await scenario('a gateway that stops', () =>
  client.run(
    { app: 'zoo', function: 'wait_for', input: { path: gate('never') }, session: 'new' },
    { onUpdate: (task: any) => tell({ name: 'begun', value: task.id }) },
  ));
