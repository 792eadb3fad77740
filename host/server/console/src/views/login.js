// Asks for the API key, once per tab.

import { useState } from "preact/hooks";
import { signIn, signedOutBecause } from "../api.js";
import { html } from "../ui.js";

export function Login() {
  const [isBusy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const typed = new FormData(event.currentTarget).get("key").trim();
    if (!typed) {
      setWrong("Enter an API key.");
      return;
    }
    setBusy(true);
    try {
      await signIn(typed);
    } catch (error) {
      setWrong(error.status === 401 ? `${error.message} Check that the key is complete; it starts with bw_.` : error.message);
      setBusy(false);
    }
  };
  const said = wrong ?? signedOutBecause.value;
  return html`<main class="login">
    <form onSubmit=${submit}>
      <img src="/assets/icon.svg" alt="" width="56" height="56" />
      <h1>Bellwether</h1>
      <p class="muted">Sign in with an API key. The key stays in this tab until you close it.</p>
      <label for="key">API key</label>
      <input id="key" name="key" type="password" autocomplete="off" spellcheck="false" autofocus required
        aria-describedby="key-help" aria-invalid=${Boolean(wrong)} placeholder="bw_…" onInput=${() => setWrong(null)} />
      <p class="wrong" role="alert">${said}</p>
      <button type="submit" class="button primary" disabled=${isBusy} aria-busy=${isBusy}>${isBusy ? "Signing in…" : "Sign in"}</button>
      <p id="key-help" class="faint"><code>bellwether dev</code> writes the key to <code>.bellwether/admin-key</code> in its working directory.</p>
    </form>
  </main>`;
}
