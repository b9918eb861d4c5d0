// @ts-check
import { tryRoute } from './route.js';
import { html } from './ui.js';

const PYTHON = `import warmd

client = warmd.Client()
client.run(app="counter", session="new", session_timeout=300)`;

/** What is shown while there is no session: three ways to begin one. @param {{ mayRun: boolean, seesAll: boolean }} props */
export function Empty({ mayRun, seesAll }) {
  if (!seesAll) return html`<${EmptyOfKey} mayRun=${mayRun} />`;
  return html`<section class="empty" aria-labelledby="empty-title">
    <h2 id="empty-title">No session is warm yet</h2>
    <p>A session is a process that keeps what is expensive to get: a loaded model, an open browser, a table in memory.
      It appears here as soon as it starts.</p>
    <div class="ways">
      ${mayRun && html`<div><h3>Here</h3><p>Runs the counter, the smallest app, in a session of its own.</p>
        <a class="button primary" href=${tryRoute('counter', { session: 'new' })}>Try the counter</a></div>`}
      <div><h3>In a terminal</h3><p>The same from a shell; <code>warmd ps</code> lists it.</p>
        <pre class="command">warmd run counter --session new</pre></div>
      <div><h3>In Python</h3><p>The same with the client library.</p><pre class="command">${PYTHON}</pre></div>
    </div>
  </section>`;
}

/** Of a key that sees only its own. @param {{ mayRun: boolean }} props */
function EmptyOfKey({ mayRun }) {
  return html`<section class="empty" aria-labelledby="empty-title">
    <h2 id="empty-title">${mayRun ? 'This key has no session yet' : 'This key sees no session'}</h2>
    <p>A key sees the sessions that it has opened itself${mayRun ? '.' : ', and one that may only read opens none.'}
      To see those of all, sign in with a key of the scope <code>admin</code>, as <code>warmd open</code> makes one.</p>
    ${mayRun && html`<div class="ways"><div><h3>Here</h3><p>Runs the counter, the smallest app, in a session of its own.</p>
      <a class="button primary" href=${tryRoute('counter', { session: 'new' })}>Try the counter</a></div></div>`}
  </section>`;
}
