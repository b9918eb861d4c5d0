// One server for the page, the session API, and the proxy that keeps the key here.
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { PROXY_ROUTE } from '@inferencesh/sdk/proxy/express';
import express from 'express';
import { client, gatewayKey, gatewayUrl } from '../lib/gateway.ts';
import { browserApi } from './browser-api.ts';
import { problems } from './problems.ts';
import { files, proxy } from './proxy.ts';
import { users } from './users.ts';

const sessionTimeout = Number(process.env.SESSION_TIMEOUT ?? 300);
const page = fileURLToPath(new URL('../dist', import.meta.url));

const app = express();
app.use(users);
app.use(express.json());
app.use('/api/browser', browserApi(client, sessionTimeout));
app.all(PROXY_ROUTE, proxy(gatewayUrl, gatewayKey));
app.get('/content/*path', files(gatewayUrl));
app.use(express.static(page));
app.use(problems);

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
