// What all scenarios share: each is told as one line of JSON, and none takes longer than its limit.
import { existsSync, writeFileSync } from 'node:fs';
import { inference } from '@inferencesh/sdk';

export const url = process.argv[2];
export const folder = process.argv[3];
export const client = inference({ apiKey: 'wk_any', baseUrl: url });

const LIMIT_MS = 10_000;

export async function scenario(name: string, work: () => Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it takes longer than ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    tell({ name, value: (await Promise.race([work(), limit])) ?? null });
  } catch (error: any) {
    tell({ name, error: { name: error.name, message: error.message, status: error.statusCode, body: error.responseBody } });
  } finally {
    clearTimeout(timer);
  }
}

export function tell(line: object): void {
  process.stdout.write(JSON.stringify(line) + '\n');
}

export function gate(name: string): string {
  return `${folder}/${name}`;
}

export function open(path: string): void {
  writeFileSync(path, '');
}

export async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

export async function opened(path: string): Promise<void> {
  await until(() => existsSync(path));
}

export async function newSession(timeout = 25): Promise<string> {
  const task: any = await client.run({ app: 'zoo', input: {}, session: 'new', session_timeout: timeout });
  return task.session_id;
}

// Has each part of `step_by_step` followed by the next, once it was seen.
export function stepByStep(outputs: number[]): (update: any) => void {
  return (update) => {
    if (!update.output || outputs.includes(update.output.i)) return;
    outputs.push(update.output.i);
    open(gate(String(update.output.i)));
  };
}
