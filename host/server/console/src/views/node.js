// One node: its health, properties, processes, events and observations.

import { useState } from "preact/hooks";
import { get, post } from "../api.js";
import { Chart } from "../chart.js";
import { measured, time, tone, words } from "../format.js";
import { HEIGHT, may, nodes, readNodes, touched, unresolved } from "../state.js";
import { Age, Badge, Confirm, Empty, Reasons, Skeleton, html, say, useRead } from "../ui.js";
import { IncidentRow } from "./incidents.js";

const EVENTS_SHOWN = 50;
const OVER = ["terminating", "terminated", "failed"];

export function Node({ id }) {
  const [isAsking, setAsking] = useState(false);
  const again = touched.value[id] ?? 0;
  const node = nodes.value?.[id];
  if (!nodes.value) return html`<${Skeleton} rows=${6} />`;
  if (!node) {
    return html`<${Empty} title="The node does not exist">It may have been removed. <a href="#/">Go to the fleet</a>.</${Empty}>`;
  }
  const open = unresolved.value.filter((one) => one.subject_id === id);
  return html`
    <div class="head">
      <div>
        <a class="back" href="#/">Fleet</a>
        <h1>${node.name}</h1>
      </div>
      <${Badge} state=${node.display_state} />
      <span class="grow"></span>
      ${may("nodes:write") && !OVER.includes(node.state) && html`<button type="button" class="button danger outline" onClick=${() => setAsking(true)}>Terminate…</button>`}
    </div>
    ${open.length > 0 && html`<section class="card flush alert" aria-label="Open incidents">${open.map((one) => html`<${IncidentRow} key=${one.id} one=${one} />`)}</section>`}
    <${Operation} id=${node.operation_id} again=${again} />
    <div class="grid">
      <section class="card wide"><${Chart} node=${node} /></section>
      <${Health} node=${node} again=${again} />
      <${Facts} node=${node} />
      <${Processes} list=${node.processes} isOver=${["terminated", "failed"].includes(node.state)} />
      <${Events} id=${id} again=${again} />
      <${Observations} all=${node.observations} />
    </div>
    ${isAsking && html`<${Terminate} node=${node} onClose=${() => setAsking(false)} />`}
  `;
}

function Terminate({ node, onClose }) {
  const run = async () => {
    await post(`/nodes/${node.id}/terminate`, { version: node.version });
    say(`${node.name} is being terminated.`);
    readNodes();
  };
  return html`<${Confirm} title=${`Terminate ${node.name}?`} action="Terminate" run=${run} onClose=${onClose}>
    <p>Bellwether stops its processes and deletes its data on the machine. This can't be undone.</p>
  </${Confirm}>`;
}

function Health({ node, again }) {
  const { data, error } = useRead(() => get(`/nodes/${node.id}/health`), [node.id, again, node.version, node.last_heartbeat]);
  const reasons = data?.reasons ?? node.reasons;
  return html`<section class="card" aria-labelledby="health">
    <h2 id="health">Health</h2>
    <dl class="pairs">
      <dt>Application</dt><dd><${Badge} state=${node.application_health} /></dd>
      <dt>Infrastructure</dt><dd><${Badge} state=${node.state} /></dd>
      <dt>Sync</dt><dd><${Badge} state=${node.sync_status} /></dd>
      <dt>Last heartbeat</dt><dd><${Age} at=${node.last_heartbeat} /></dd>
      ${data?.consecutive_failures > 0 && html`<dt>Missed heartbeats</dt><dd>${data.consecutive_failures} consecutive evaluations</dd>`}
    </dl>
    ${data?.pending && html`<p class="note">Policies report <strong>${words(data.pending.application_health)}</strong> for <${Age} at=${data.pending.since} suffix="" />; the change takes effect when it has lasted long enough.</p>`}
    ${data?.flapping && html`<p class="note warn">The health changes too often, so it stays at its worst value until it is stable.</p>`}
    ${reasons.length > 0 ? html`<${Reasons} reasons=${reasons} />` : html`<p class="muted">${node.application_health === "ok" ? "Every policy reports ok." : "No policy has evaluated the node yet."}</p>`}
    ${error && html`<p class="wrong">${error.message}</p>`}
  </section>`;
}

function Facts({ node }) {
  const ports = Object.entries(node.ports);
  const versions = Object.entries(node.binary_versions);
  const inputs = Object.entries(node.inputs);
  return html`<section class="card" aria-labelledby="facts">
    <h2 id="facts">About</h2>
    <dl class="pairs">
      <dt>Chain</dt><dd>${node.chain} · ${node.node_type}</dd>
      ${node.placement && html`<dt>Placement</dt><dd>${[node.placement.provider, node.placement.region, node.placement.machine_ip].filter(Boolean).join(" · ")}</dd>`}
      ${ports.map(([name, port]) => html`<dt key=${name}>Port ${name}</dt><dd class="number">${port}</dd>`)}
      ${versions.map(([name, version]) => html`<dt key=${name}>${name}</dt><dd>${version}</dd>`)}
      ${inputs.map(([name, value]) => html`<dt key=${name}>${words(name)}</dt><dd>${value}</dd>`)}
      <dt>Created</dt><dd><${Age} at=${node.created_at} /></dd>
      <dt>Updated</dt><dd><${Age} at=${node.updated_at} /></dd>
      <dt>Id</dt><dd><code class="break">${node.id}</code></dd>
    </dl>
  </section>`;
}

function Operation({ id, again }) {
  const { data, error } = useRead(() => (id ? get(`/operations/${id}`) : Promise.resolve(null)), [id, again]);
  if (error) return html`<p class="wrong">${error.message}</p>`;
  if (!data || ["succeeded", "cancelled"].includes(data.state)) return null;
  const percent = Math.round(data.progress * 100);
  return html`<section class="card" aria-labelledby="operation">
    <div class="row"><h2 id="operation">${words(data.kind)}</h2><${Badge} state=${data.state} /><span class="grow"></span><span class="number">${percent} %</span></div>
    <progress max="1" value=${data.progress} aria-label=${words(data.kind)}>${percent} %</progress>
    <ol class="steps">
      ${data.steps.map(
        (step) => html`<li key=${step.name} class=${`${tone(step.state)} ${step.state}`} aria-current=${step.state === "running" ? "step" : undefined}>
          <span>${words(step.name)}</span>
          ${step.state === "running" && step.fraction !== null && html`<span class="number faint">${Math.round(step.fraction * 100)} %</span>`}
          ${step.message && html`<small>${step.message}</small>`}
          ${step.output && html`<details><summary>Output</summary><pre>${step.output}</pre></details>`}
        </li>`,
      )}
    </ol>
    ${data.error && html`<p class="wrong">${data.error}</p>`}
  </section>`;
}

function Processes({ list, isOver }) {
  return html`<section class="card" aria-labelledby="processes">
    <h2 id="processes">Processes</h2>
    ${list.length === 0
      ? html`<p class="muted">${isOver ? "No process runs any more." : "The agent has not reported any process yet."}</p>`
      : list.map(
          (one) => html`<dl key=${one.name} class="pairs">
            <dt><strong>${one.name}</strong></dt><dd><${Badge} state=${one.state} /></dd>
            ${one.state === "running" && html`<dt>Running for</dt><dd><${Age} at=${one.started_at} suffix="" /></dd>`}
            <dt>Restarts</dt><dd class="number">${one.restarts}</dd>
            ${one.pid > 0 && html`<dt>Process id</dt><dd class="number">${one.pid}</dd>`}
          </dl>`,
        )}
  </section>`;
}

function Events({ id, again }) {
  const { data, error } = useRead(() => get(`/nodes/${id}/events?limit=${EVENTS_SHOWN}`), [id, again]);
  return html`<section class="card" aria-labelledby="events">
    <h2 id="events">Events</h2>
    ${error && html`<p class="wrong">${error.message}</p>`}
    ${!data && !error && html`<${Skeleton} />`}
    ${data && data.items.length === 0 && html`<p class="muted">No events yet.</p>`}
    <ol class="timeline">
      ${data?.items.map((one) => html`<li key=${one.id}><strong>${words(one.kind)}</strong> <span>${one.message}</span><small><${Age} at=${one.at} /></small></li>`)}
    </ol>
  </section>`;
}

function Observations({ all }) {
  const names = Object.keys(all).sort((a, b) => (b === HEIGHT) - (a === HEIGHT) || a.localeCompare(b));
  return html`<section class="card" aria-labelledby="observations">
    <h2 id="observations">Observations</h2>
    ${names.length === 0
      ? html`<p class="muted">No collector has reported observations yet.</p>`
      : html`<dl class="pairs">${names.map((name) => html`<dt key=${name}><code>${name}</code></dt><dd class="number" title=${time(all[name].at)}>${measured(name, all[name].value)}</dd>`)}</dl>`}
  </section>`;
}
