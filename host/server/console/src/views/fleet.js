// All nodes, those with problems first.

import { useState } from "preact/hooks";
import { measured, tone, words } from "../format.js";
import { HEIGHT, chains, nodes, sparks, unresolved } from "../state.js";
import { Age, Badge, Empty, Skeleton, Sparkline, html } from "../ui.js";

const GROUPS = [
  { id: "bad", name: "Problems" },
  { id: "warn", name: "Degraded" },
  { id: "busy", name: "In progress" },
  { id: "good", name: "Healthy" },
];
const ORDER = { bad: 0, warn: 1, busy: 2, good: 3, calm: 4 };

export function Fleet() {
  const [group, setGroup] = useState(null);
  const [text, setText] = useState("");
  const [showsRemoved, setShowsRemoved] = useState(false);
  if (!nodes.value) return html`<h1>Fleet</h1><${Skeleton} rows=${4} />`;

  const everything = Object.values(nodes.value);
  const living = everything.filter((node) => node.state !== "terminated");
  const removed = everything.length - living.length;
  const wanted = text.trim().toLowerCase();
  const shown = (showsRemoved ? everything : living)
    .filter((node) => !group || tone(node.display_state) === group)
    .filter((node) => !wanted || `${node.name} ${node.chain} ${node.node_type} ${node.display_state}`.toLowerCase().includes(wanted))
    .sort((a, b) => ORDER[tone(a.display_state)] - ORDER[tone(b.display_state)] || a.name.localeCompare(b.name));

  return html`
    <div class="head">
      <h1>Fleet</h1>
      <input type="search" class="search" placeholder="Find by name, chain or state" aria-label="Find nodes" value=${text} onInput=${(event) => setText(event.currentTarget.value)} />
    </div>
    <div class="tiles" role="group" aria-label="Nodes by state">
      ${GROUPS.map(({ id, name }) => {
        const count = living.filter((node) => tone(node.display_state) === id).length;
        return html`<button key=${id} type="button" class=${`tile ${count > 0 ? id : "none"}`} aria-pressed=${group === id} onClick=${() => setGroup(group === id ? null : id)}>
          <b>${count}</b><span>${name}</span>
        </button>`;
      })}
    </div>
    ${shown.length > 0 ? html`<${Table} list=${shown} />` : html`<${None} isFiltered=${Boolean(group || wanted)} />`}
    ${removed > 0 &&
    html`<label class="check"><input type="checkbox" checked=${showsRemoved} onChange=${(event) => setShowsRemoved(event.currentTarget.checked)} /> Show ${removed} removed</label>`}
  `;
}

const None = ({ isFiltered }) =>
  isFiltered
    ? html`<${Empty} title="No matching nodes">Clear the search or deselect the tile.</${Empty}>`
    : html`<${Empty} title="No nodes yet">Create one: <code>bellwether node create --chain ${chains.value?.[0]?.id ?? "CHAIN"}</code>. The node appears here automatically.</${Empty}>`;

const Table = ({ list }) => html`<div class="card flush">
  <table class="cards" role="table">
    <thead role="rowgroup">
      <tr role="row">
        ${["Node", "State", "Height", "Last heartbeat", "Processes"].map((name) => html`<th key=${name} role="columnheader" scope="col">${name}</th>`)}
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${list.map((node) => html`<${Row} key=${node.id} node=${node} />`)}
    </tbody>
  </table>
</div>`;

function Row({ node }) {
  const height = node.observations[HEIGHT];
  const open = unresolved.value.filter((one) => one.subject_id === node.id).length;
  const isGone = node.state === "terminated";
  return html`<tr role="row" class=${`node ${tone(node.display_state)}`} data-node=${node.name} data-state=${node.display_state}>
    <td role="cell" class="name">
      <a class="whole" href=${`#/nodes/${node.id}`}>${node.name}</a>
      <small>${node.chain} · ${node.node_type}</small>
    </td>
    <td role="cell" class="state">
      <div class="row tight"><${Badge} state=${node.display_state} />${open > 0 && html`<span class="badge bad outline">${open} ${open === 1 ? "incident" : "incidents"}</span>`}</div>
      <small class="why">${isGone ? "removed" : (node.reasons[0]?.message ?? (node.sync_status === "unknown" ? "" : words(node.sync_status)))}</small>
    </td>
    <td role="cell" class="height" data-label="Height">
      <span class="number" data-height=${height?.value ?? ""}>${height ? measured(HEIGHT, height.value) : html`<span class="faint">not measured yet</span>`}</span>
      <${Sparkline} points=${sparks.value[node.id] ?? []} />
    </td>
    <td role="cell" class="beat" data-label="Last heartbeat"><${Age} at=${node.last_heartbeat} /></td>
    <td role="cell" class="processes" data-label="Processes"><${Processes} list=${node.processes} /></td>
  </tr>`;
}

function Processes({ list }) {
  if (list.length === 0) return html`<span class="faint">none</span>`;
  return list.map((one) => html`<span key=${one.name} class="process"><${Badge} state=${one.state} label=${one.name} />${one.restarts > 0 && html`<small>${one.restarts} ${one.restarts === 1 ? "restart" : "restarts"}</small>`}</span>`);
}
