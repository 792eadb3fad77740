// Incidents, their history, and the actions on them.

import { useState } from "preact/hooks";
import { get, post } from "../api.js";
import { time, words } from "../format.js";
import { incidents, may, readIncidents } from "../state.js";
import { Act, Age, Badge, Empty, Reasons, Skeleton, html, say, useRead } from "../ui.js";

const WORST = { critical: 0, warning: 1, info: 2 };

export function Incidents() {
  const [isResolved, setResolved] = useState(false);
  if (!incidents.value) return html`<h1>Incidents</h1><${Skeleton} rows=${4} />`;
  const open = incidents.value.filter((one) => one.state !== "resolved");
  const over = incidents.value.filter((one) => one.state === "resolved");
  const shown = isResolved
    ? over.sort((a, b) => b.updated_at.localeCompare(a.updated_at))
    : open.sort((a, b) => WORST[a.severity] - WORST[b.severity] || b.updated_at.localeCompare(a.updated_at));
  return html`
    <div class="head">
      <h1>Incidents</h1>
      <div class="segments" role="group" aria-label="Which">
        <button type="button" aria-pressed=${!isResolved} onClick=${() => setResolved(false)}>Open ${open.length}</button>
        <button type="button" aria-pressed=${isResolved} onClick=${() => setResolved(true)}>Resolved ${over.length}</button>
      </div>
    </div>
    ${shown.length > 0
      ? html`<div class="card flush">${shown.map((one) => html`<${IncidentRow} key=${one.id} one=${one} />`)}</div>`
      : isResolved
        ? html`<${Empty} title="No resolved incidents">An incident appears here when its cause is gone or a person resolves it.</${Empty}>`
        : html`<${Empty} title="No open incidents">This page updates automatically.</${Empty}>`}
  `;
}

export const IncidentRow = ({ one }) => html`<article class=${`incident ${one.state === "resolved" ? "over" : one.severity}`} data-category=${one.category} data-state=${one.state}>
  <div class="text">
    <a class="whole" href=${`#/incidents/${one.id}`}>${firstLine(one.title)}</a>
    <div class="row tight wrap">
      <${Badge} state=${one.severity} /><${Badge} state=${one.state} />
      <small>${one.subject_name}${one.occurrences > 1 ? ` · ${one.occurrences} occurrences` : ""}</small>
    </div>
  </div>
  <small class="when">${one.state === "resolved" ? html`resolved <${Age} at=${one.resolved_at ?? one.updated_at} />` : html`open for <${Age} at=${one.opened_at} suffix="" />`}</small>
</article>`;

const firstLine = (text) => text.split("\n", 1)[0];

export function Incident({ id }) {
  const known = incidents.value?.find((one) => one.id === id);
  const [turn, setTurn] = useState(0);
  const { data, error } = useRead(() => get(`/incidents/${id}`), [id, turn, known?.version]);
  if (error && !data) return html`<${Empty} title="The incident is not available">${error.message} <a href="#/incidents">Go to the incidents</a>.</${Empty}>`;
  if (!data) return html`<${Skeleton} rows=${6} />`;
  const act = (what, said) => async () => {
    try {
      await post(`/incidents/${id}/${what}`, { version: data.version });
      say(said);
    } finally {
      setTurn((before) => before + 1);
      readIncidents();
    }
  };
  const isOpen = data.state !== "resolved";
  const canAct = isOpen && may("incidents:write");
  return html`
    <div class="head">
      <div>
        <a class="back" href="#/incidents">Incidents</a>
        <h1>${firstLine(data.title)}</h1>
      </div>
    </div>
    <div class="row wrap gap">
      <${Badge} state=${data.severity} /><${Badge} state=${data.state} />
      <span class="grow"></span>
      ${canAct && data.state !== "acknowledged" && html`<${Act} run=${act("acknowledge", "Incident acknowledged.")}>Acknowledge</${Act}>`}
      ${canAct && html`<${Act} kind="primary" run=${act("resolve", "Incident resolved.")}>Resolve</${Act}>`}
    </div>
    <div class="grid">
      <section class="card" aria-labelledby="why">
        <h2 id="why">Why</h2>
        <${Reasons} reasons=${data.reasons} />
        <dl class="pairs">
          <dt>Subject</dt><dd>${data.subject_kind === "node" ? html`<a href=${`#/nodes/${data.subject_id}`}>${data.subject_name}</a>` : `${words(data.subject_kind)} ${data.subject_name}`}</dd>
          <dt>Category</dt><dd><code>${data.category}</code></dd>
          <dt>Occurred</dt><dd class="number">${data.occurrences} ${data.occurrences === 1 ? "time" : "times"}</dd>
          <dt>Opened</dt><dd>${time(data.opened_at)}</dd>
          ${data.acknowledged_by && html`<dt>Acknowledged by</dt><dd>${data.acknowledged_by}</dd>`}
          ${data.resolved_at && html`<dt>Resolved</dt><dd>${time(data.resolved_at)}</dd>`}
          ${Object.entries(data.labels).map(([name, value]) => html`<dt key=${name}>${words(name)}</dt><dd>${value}</dd>`)}
        </dl>
      </section>
      <section class="card" aria-labelledby="history">
        <h2 id="history">History</h2>
        <ol class="timeline">
          ${[...data.history].reverse().map((one) => html`<li key=${one.at + one.event}><strong>${words(one.event)}</strong> <span>${firstLine(one.message)}</span><small>${one.actor} · <${Age} at=${one.at} /></small></li>`)}
        </ol>
      </section>
      <section class="card" aria-labelledby="messages">
        <h2 id="messages">Notifications</h2>
        ${data.notifications.length === 0 && html`<p class="muted">No notification was sent: no route matches, or the group wait is not over.</p>`}
        ${data.notifications.map(
          (one) => html`<dl key=${one.id} class="pairs">
            <dt><strong>${one.receiver}</strong></dt><dd><${Badge} state=${one.state} /></dd>
            <dt>Status</dt><dd>${words(one.status)}, by route ${one.route}</dd>
            <dt>Attempts</dt><dd class="number">${one.attempts}</dd>
            ${one.outcome && html`<dt>Outcome</dt><dd>${one.outcome}</dd>`}
            <dt>${one.finished_at ? "Finished" : "Due"}</dt><dd>${time(one.finished_at ?? one.due_at)}</dd>
          </dl>`,
        )}
      </section>
    </div>
  `;
}
