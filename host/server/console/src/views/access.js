// Who may call the API, and who did what; for administrators.

import { useState } from "preact/hooks";
import { get, post } from "../api.js";
import { time, words } from "../format.js";
import { isAdmin, me } from "../state.js";
import { Act, Age, Badge, Confirm, Empty, Skeleton, html, say, useRead } from "../ui.js";

/** Every scope, and what it allows. */
const SCOPES = [
  ["nodes:read", "Read nodes, chains and operations"],
  ["nodes:write", "Create and terminate nodes"],
  ["keys:export", "Export keys of nodes"],
  ["subscriptions:read", "Read its own subscriptions"],
  ["subscriptions:write", "Create and cancel its own subscriptions"],
  ["incidents:read", "Read incidents"],
  ["incidents:write", "Acknowledge and resolve incidents"],
  ["admin", "Everything"],
];
const LIFETIMES = [
  ["30d", "30 days"],
  ["90d", "90 days"],
  ["365d", "1 year"],
  ["", "No expiry"],
];

export function Access({ page }) {
  if (!me.value) return html`<h1>API keys</h1><${Skeleton} rows=${4} />`;
  if (!isAdmin.value) return html`<h1>API keys</h1><${Empty} title="For administrators">This page needs a key with the scope <code>admin</code>.</${Empty}>`;
  return page === "audit" ? html`<${Audit} />` : html`<${Keys} />`;
}

const Head = ({ title, page, children }) => html`<div class="head">
  <h1>${title}</h1>
  <div class="segments" role="group" aria-label="Which">
    <button type="button" aria-pressed=${page === "keys"} onClick=${() => (location.hash = "#/access")}>API keys</button>
    <button type="button" aria-pressed=${page === "audit"} onClick=${() => (location.hash = "#/access/audit")}>Audit log</button>
  </div>
  ${children}
</div>`;

function Keys() {
  const [turn, setTurn] = useState(0);
  const [isNew, setNew] = useState(false);
  const [created, setCreated] = useState(null);
  const [revoked, setRevoked] = useState(null);
  const { data, error } = useRead(() => get("/admin/api-keys?limit=200"), [turn]);
  const again = () => setTurn((before) => before + 1);
  const done = (one) => {
    setNew(false);
    setCreated(one);
    again();
  };
  return html`
    <${Head} title="API keys" page="keys">
      ${!isNew && html`<button type="button" class="button primary" onClick=${() => setNew(true)}>New key</button>`}
    </${Head}>
    ${created && html`<${Created} one=${created} onClose=${() => setCreated(null)} />`}
    ${isNew && html`<${NewKey} onDone=${done} onClose=${() => setNew(false)} />`}
    ${error && html`<${Empty} title="The keys can't be shown">${error.message}</${Empty}>`}
    ${!data && !error && html`<${Skeleton} rows=${4} />`}
    ${data && html`<div class="card flush"><table class="cards records">
      <thead><tr><th>Name</th><th>State</th><th>Scopes</th><th>Last use</th><th>Expires</th><th></th></tr></thead>
      <tbody>${data.items.map((key) => html`<${Key} key=${key.id} one=${key} onRevoke=${() => setRevoked(key)} />`)}</tbody>
    </table></div>`}
    ${revoked && html`<${Revoke} one=${revoked} onDone=${again} onClose=${() => setRevoked(null)} />`}
  `;
}

const Key = ({ one, onRevoke }) => html`<tr data-key=${one.name} data-state=${one.state}>
  <td><strong>${one.name}</strong><small><code>${one.prefix}…</code></small></td>
  <td><${Badge} state=${one.state} /></td>
  <td>${one.scopes.join(", ")}</td>
  <td>${one.last_used_at ? html`<${Age} at=${one.last_used_at} />` : "never"}</td>
  <td>${one.expires_at ? time(one.expires_at) : "never"}</td>
  <td>${one.state === "active" && html`<button type="button" class="button danger outline" onClick=${onRevoke}>Revoke…</button>`}</td>
</tr>`;

/** The token is in this element only; it is gone with it. */
const Created = ({ one, onClose }) => html`<section class="card alert" aria-labelledby="created">
  <h2 id="created">Copy the token of ${one.api_key.name} now</h2>
  <p>The host can't show it again.</p>
  <pre data-token>${one.token}</pre>
  <div class="row end"><button type="button" class="button" onClick=${onClose}>I have copied it</button></div>
</section>`;

function NewKey({ onDone, onClose }) {
  const [isBusy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const body = { name: form.get("name").trim(), scopes: form.getAll("scope") };
    const life = form.get("expires_in");
    setBusy(true);
    try {
      onDone(await post("/admin/api-keys", { body: life ? { ...body, expires_in: life } : body }));
    } catch (error) {
      setWrong(error.message);
      setBusy(false);
    }
  };
  return html`<form class="card new-key" onSubmit=${submit} aria-labelledby="new-key">
    <h2 id="new-key">New API key</h2>
    <label for="key-name">Name</label>
    <input id="key-name" name="name" required maxlength="64" autocomplete="off" spellcheck="false" placeholder="ci" />
    <label for="key-life">Valid for</label>
    <select id="key-life" name="expires_in">${LIFETIMES.map(([value, name]) => html`<option key=${value} value=${value} selected=${value === "90d"}>${name}</option>`)}</select>
    <fieldset>
      <legend>Scopes</legend>
      ${SCOPES.map(([scope, allows]) => html`<label key=${scope} class="check"><input type="checkbox" name="scope" value=${scope} /><span><code>${scope}</code> ${allows}</span></label>`)}
    </fieldset>
    <p class="wrong" role="alert">${wrong}</p>
    <div class="row end">
      <button type="button" class="button" onClick=${onClose}>Cancel</button>
      <button type="submit" class="button primary" disabled=${isBusy} aria-busy=${isBusy}>Create key</button>
    </div>
  </form>`;
}

function Revoke({ one, onDone, onClose }) {
  const run = async () => {
    await post(`/admin/api-keys/${one.id}/revoke`);
    say(`${one.name} is revoked.`);
    onDone();
  };
  return html`<${Confirm} title=${`Revoke ${one.name}?`} action="Revoke" run=${run} onClose=${onClose}>
    <p>The host rejects its token from then on. This can't be undone.</p>
  </${Confirm}>`;
}

function Audit() {
  const [filter, setFilter] = useState("");
  const [older, setOlder] = useState({ items: [], next: undefined });
  const { data, error } = useRead(() => get(`/admin/audit?limit=50${filter}`), [filter]);
  const choose = (event) => {
    event.preventDefault();
    const chosen = [...new FormData(event.currentTarget)].filter(([, value]) => value.trim());
    setOlder({ items: [], next: undefined });
    setFilter(chosen.map(([name, value]) => `&${name}=${encodeURIComponent(value.trim())}`).join(""));
  };
  const next = older.next === undefined ? data?.next : older.next;
  const more = async () => {
    const part = await get(`/admin/audit?limit=50${filter}&cursor=${encodeURIComponent(next)}`);
    setOlder({ items: [...older.items, ...part.items], next: part.next ?? null });
  };
  const items = [...(data?.items ?? []), ...older.items];
  return html`
    <${Head} title="Audit log" page="audit" />
    <form class="row wrap gap filters" onSubmit=${choose} aria-label="Filter">
      ${["actor", "action", "object"].map((name) => html`<input key=${name} name=${name} aria-label=${name} placeholder=${name} autocomplete="off" spellcheck="false" />`)}
      <button type="submit" class="button">Filter</button>
    </form>
    ${error && html`<${Empty} title="The audit log can't be shown">${error.message}</${Empty}>`}
    ${!data && !error && html`<${Skeleton} rows=${6} />`}
    ${data && items.length === 0 && html`<${Empty} title="No entries">The audit log has no such entries.</${Empty}>`}
    ${items.length > 0 && html`<div class="card flush"><table class="cards records">
      <thead><tr><th>When</th><th>Who</th><th>What</th><th>Object</th><th>Request</th></tr></thead>
      <tbody>${items.map((one) => html`<${Entry} key=${one.seq} one=${one} />`)}</tbody>
    </table></div>`}
    ${next && html`<div class="row end"><${Act} run=${more}>Older entries</${Act}></div>`}
  `;
}

const Entry = ({ one }) => html`<tr data-action=${one.action}>
  <td title=${one.at}>${time(one.at)}</td>
  <td><strong>${one.actor}</strong></td>
  <td>${words(one.action)}</td>
  <td><code>${one.object}</code>${one.details && html`<small>${Object.entries(one.details).filter(([, value]) => value !== null).map(([name, value]) => `${words(name)}: ${Array.isArray(value) ? value.join(", ") : value}`).join(" · ")}</small>`}</td>
  <td>${one.request_id && html`<code>${one.request_id}</code>`}</td>
</tr>`;
