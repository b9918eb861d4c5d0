// The gateway, as scripts and servers see it. The page must not import this: it has the key.
import { inference } from '@inferencesh/sdk';

export const gatewayUrl = process.env.WARMD_URL ?? 'http://127.0.0.1:8470';
export const gatewayKey = keyOf(process.env);
export const client = inference({ apiKey: gatewayKey, baseUrl: gatewayUrl });

function keyOf(environment: NodeJS.ProcessEnv): string {
  if (environment.WARMD_KEY) return environment.WARMD_KEY;
  throw new Error('WARMD_KEY is not set: `export WARMD_KEY=$(warmd http keys add typescript)` makes a key');
}
