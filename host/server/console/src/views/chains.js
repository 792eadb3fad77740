// The chains that nodes can be created for.

import { shortDigest } from "../format.js";
import { chains, nodes } from "../state.js";
import { Empty, Skeleton, html } from "../ui.js";

export function Chains() {
  if (!chains.value) return html`<h1>Chains</h1><${Skeleton} rows=${3} />`;
  return html`
    <div class="head"><h1>Chains</h1></div>
    ${chains.value.length === 0 && html`<${Empty} title="No chains">Add a chain to the configuration folder and reload.</${Empty}>`}
    <div class="grid">${chains.value.map((chain) => html`<${Chain} key=${chain.id} chain=${chain} />`)}</div>
  `;
}

function Chain({ chain }) {
  const count = Object.values(nodes.value ?? {}).filter((node) => node.chain === chain.id && !["terminated", "failed"].includes(node.state)).length;
  const inputs = Object.entries(chain.inputs);
  return html`<article class="card">
    <div class="row"><h3>${chain.display_name}</h3><span class="grow"></span><span class="badge calm">${chain.network_type}</span></div>
    <dl class="pairs">
      <dt>Id</dt><dd><code>${chain.id}</code></dd>
      <dt>Family</dt><dd>${chain.chain_type}</dd>
      <dt>Nodes</dt><dd class="number">${count}</dd>
      ${Object.entries(chain.node_types).map(([type, providers]) => html`<dt key=${type}>Type ${type}</dt><dd>${Object.entries(providers).map(([name, regions]) => `${name} (${regions.join(", ")})`).join("; ")}</dd>`)}
      ${inputs.length > 0 && html`<dt>Inputs</dt><dd>${inputs.map(([name, isRequired]) => (isRequired ? name : `${name} (optional)`)).join(", ")}</dd>`}
      <dt>Plugins</dt><dd>${chain.plugins.join(", ")}</dd>
      <dt>Version</dt><dd><code title=${chain.version}>${shortDigest(chain.version)}</code></dd>
    </dl>
  </article>`;
}
