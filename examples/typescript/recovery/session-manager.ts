import type { Inference, TaskDTO } from '@inferencesh/sdk';

/**
 * Runs calls in one session of an app, and in a new one when that is gone.
 *
 * A call under which the session's process died is repeated too, though it may have run in part.
 * Python's `warmd.SessionManager` repeats only what has not run.
 */
export class SessionManager {
  private client: Inference;
  private app: string;
  private timeout: number;
  private sessionId: string | null = null;

  constructor(client: Inference, app: string, timeout = 300) {
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
        session_timeout: this.timeout,
      });
      this.sessionId = result.session_id!;
    }
    return this.sessionId;
  }

  async run(input: unknown): Promise<TaskDTO> {
    try {
      return await this.client.run({
        app: this.app,
        input,
        session: await this.ensureSession(),
      });
    } catch (e: any) {
      if (e.message?.toLowerCase().includes('session')) {
        // Session expired, create new one
        this.sessionId = null;
        return await this.client.run({
          app: this.app,
          input,
          session: await this.ensureSession(),
        });
      }
      throw e;
    }
  }
}
