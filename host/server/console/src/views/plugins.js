// Active components, the statistics of their calls, and the result of each reload.

import { post } from "../api.js";
import { shortDigest, time, words } from "../format.js";
import { isAdmin, plugins, readPlugins } from "../state.js";
import { Act, Age, Badge, Empty, Skeleton, html, say } from "../ui.js";

export function Plugins() {
  if (!plugins.value) return html`<h1>Plugins</h1><${Skeleton} rows=${4} />`;
  const reload = async () => {
    await post("/plugins/reload");
    readPlugins();
    say("The configuration was reloaded.");
  };
  const scopes = Map.groupBy?.(plugins.value, (one) => one.scope) ?? grouped(plugins.value);
  return html`
    <div class="head">
      <h1>Plugins</h1>
      <span class="grow"></span>
      ${isAdmin.value && html`<${Act} run=${reload}>Reload configuration</${Act}>`}
    </div>
    ${plugins.value.length === 0 && html`<${Empty} title="No plugins">Chains in the configuration folder declare them. <code>bellwether chain validate</code> shows what is wrong with the folder.</${Empty}>`}
    ${[...scopes].map(
      ([scope, list]) => html`<section key=${scope} aria-label=${scope}>
        <h2 class="scope">${scope}</h2>
        <div class="grid">${list.map((one) => html`<${Plugin} key=${one.plugin} one=${one} />`)}</div>
      </section>`,
    )}
  `;
}

function grouped(list) {
  const groups = new Map();
  for (const one of list) groups.set(one.scope, [...(groups.get(one.scope) ?? []), one]);
  return groups;
}

function Plugin({ one }) {
  const newest = one.active ?? one.revisions[0];
  const failed = one.calls > 0 ? (100 * one.failures) / one.calls : 0;
  const isRefused = one.revisions[0] && one.revisions[0] !== one.active && one.revisions[0].id !== one.active?.id && ["rejected", "broken"].includes(one.revisions[0].state);
  return html`<article class="card plugin" data-plugin=${`${one.scope}/${one.plugin}`} data-state=${newest?.state}>
    <div class="row"><h3>${one.plugin}</h3><small class="muted">${words(newest?.kind ?? "not described yet")}</small><span class="grow"></span>${newest && html`<${Badge} state=${newest.state} />`}</div>
    ${isRefused && one.active && html`<p class="note warn">The newest revision was rejected; generation ${one.active.generation} stays active.</p>`}
    ${one.is_open && html`<p class="note bad">The plugin failed too often, so the host pauses its calls.</p>`}
    ${newest?.kind === "collector" && one.calls === 0 ? html`<p class="muted">Agents call this plugin on the machines.</p>` : html`<${Figures} one=${one} failed=${failed} />`}
    ${one.last_error && html`<details class="wrong"><summary>Last error</summary><pre>${one.last_error}</pre></details>`}
    <h4>Revisions</h4>
    <ol class="revisions">
      ${one.revisions.map(
        (revision) => html`<li key=${revision.id}>
          <div class="row tight wrap">
            <b class="number">#${revision.generation}</b><${Badge} state=${revision.state} />
            <code title=${revision.digest}>${shortDigest(revision.digest)}</code>
            ${revision.version && html`<small>v${revision.version}</small>`}
            <span class="grow"></span>
            <small title=${time(revision.created_at)}><${Age} at=${revision.activated_at ?? revision.created_at} /></small>
          </div>
          ${revision.reason && html`<pre>${revision.reason}</pre>`}
        </li>`,
      )}
    </ol>
  </article>`;
}

const Figures = ({ one, failed }) => html`<dl class="figures">
  <div><dt>Calls</dt><dd class="number">${one.calls.toLocaleString("en")}</dd></div>
  <div class=${one.failures > 0 ? "bad" : ""}><dt>Failures</dt><dd class="number">${one.failures.toLocaleString("en")}${failed >= 0.1 ? html` <small>${failed.toFixed(1)} %</small>` : ""}</dd></div>
  <div><dt>Mean</dt><dd class="number">${one.mean_ms.toFixed(one.mean_ms < 10 ? 2 : 0)} <small>ms</small></dd></div>
</dl>`;
