// @ts-check
import { byValue, html, inline, useState, useStore } from './ui.js';

/** What is shown without a key, or with a wrong one. */
export function SignIn() {
  const store = useStore();
  const [key, type] = useState('');
  const problem = store.api.key ? store.model.detail : '';
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (key.trim()) store.signIn(key.trim());
  };
  return html`<div class="sign-in">
    <h1>Sign in</h1>
    <p>On the machine where warmd runs, <code>warmd open</code> opens this page with a key of its own. Nothing else is needed.</p>
    <p>Or make a key and paste it here. It stays in this tab.</p>
    <pre class="command">warmd http keys add NAME --scope admin</pre>
    <form onSubmit=${submit} novalidate>
      <label for="key">Key</label>
      <div class="joined">
        <input id="key" type="password" autocomplete="off" spellcheck=${false} placeholder="wk_…" value=${key}
          aria-describedby=${problem ? 'key-problem' : undefined} onInput=${byValue(type)} />
        <button class="primary" disabled=${!key.trim()}>Sign in</button>
      </div>
      ${problem && html`<p class="problem" id="key-problem" role="alert">${inline(problem)}</p>`}
    </form>
  </div>`;
}
