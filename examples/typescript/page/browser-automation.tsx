import { type FormEvent, useState } from 'react';
import { type Picture, Screenshot } from './screenshot.tsx';
import { useSession } from './use-session.ts';

export function BrowserAutomation() {
  const { sessionId, loading, expired, run, end } = useSession('browser-automation');
  const [url, setUrl] = useState(window.location.href);
  const [picture, setPicture] = useState<Picture | null>(null);
  const [error, setError] = useState<string | null>(null);

  async function attempt(work: () => Promise<unknown>) {
    setError(null);
    try {
      await work();
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    }
  }

  const start = (event: FormEvent) => {
    event.preventDefault();
    setPicture(null);
    void attempt(() => run({ action: 'start', url }));
  };
  const takeScreenshot = () => attempt(async () => setPicture((await run({ action: 'screenshot' })).output));
  const endSession = () => attempt(async () => {
    await end();
    setPicture(null);
  });

  return (
    <main aria-busy={loading}>
      <h1>Browser automation</h1>
      <p className="session">
        Session: <code role="status">{sessionId ?? 'None'}</code>
        {loading && ' · working'}
      </p>
      <form onSubmit={start}>
        <label>
          Address
          <input type="url" value={url} onChange={(event) => setUrl(event.target.value)} required />
        </label>
        <div className="buttons">
          <button className="primary" disabled={loading}>Start Browser</button>
          <button type="button" onClick={takeScreenshot} disabled={!sessionId || loading}>Screenshot</button>
          <button type="button" onClick={endSession} disabled={!sessionId}>End Session</button>
        </div>
      </form>
      {expired && <p role="alert" className="expired">The session has expired. Start the browser again.</p>}
      {error && !expired && <p role="alert" className="error">{error}</p>}
      {picture && <Screenshot picture={picture} />}
    </main>
  );
}
