// The frame: header, navigation, connection state and the current view.

import { render } from "preact";
import { useEffect } from "preact/hooks";
import { signal } from "@preact/signals";
import { key, signOut } from "./api.js";
import { words } from "./format.js";
import { begin, connection, failure, incidents, isAdmin, me, nodes, unresolved } from "./state.js";
import { Toasts, html } from "./ui.js";
import { Access } from "./views/access.js";
import { Chains } from "./views/chains.js";
import { Fleet } from "./views/fleet.js";
import { Incident, Incidents } from "./views/incidents.js";
import { Login } from "./views/login.js";
import { Node } from "./views/node.js";
import { Plugins } from "./views/plugins.js";

const place = signal(read());
addEventListener("hashchange", () => {
  place.value = read();
  scrollTo(0, 0);
  document.getElementById("main")?.focus({ preventScroll: true });
});

/** `#/nodes/7` is `["nodes", "7"]`. */
function read() {
  return location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
}

const TABS = [
  { path: "", name: "Fleet", icon: "M4 5h16v5H4zM4 14h16v5H4zM8 7.500h.01M8 16.500h.01" },
  { path: "incidents", name: "Incidents", icon: "M12 4 3 20h18zM12 10v4M12 17h.01" },
  { path: "plugins", name: "Plugins", icon: "M12 3 4 7.500v9L12 21l8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9" },
  { path: "chains", name: "Chains", icon: "M9 15l6-6M10.500 6.500l1-1a4.200 4.200 0 0 1 6 6l-1 1M13.500 17.500l-1 1a4.200 4.200 0 0 1-6-6l1-1" },
  { path: "access", name: "Access", icon: "M15 7a4 4 0 1 1-3.500 5.900L8 16.400H5v-3l4.100-4.100A4 4 0 0 1 15 7zM16 10.500h.01", isForAdmins: true },
];

const SAYS = { live: "Live", connecting: "Connecting", lost: "Reconnecting" };

function App() {
  useEffect(() => (key.value ? begin() : undefined), [key.value]);
  useEffect(() => {
    const open = unresolved.value.length;
    document.title = `${open > 0 ? `(${open}) ` : ""}${title()} · Bellwether`;
  });
  if (!key.value) return html`<${Login} />`;
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <${Header} />
    ${failure.value && html`<p class="banner" role="alert">${failure.value} The console retries automatically.</p>`}
    <main id="main" tabindex="-1"><${View} /></main>
    <${Toasts} />
  `;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function title() {
  const [section, id] = place.value;
  if (section === "nodes") return nodes.value?.[id]?.name ?? "Node";
  return TABS.find((tab) => tab.path === (section ?? ""))?.name ?? "Fleet";
}

function Header() {
  const here = place.value[0] === "nodes" ? "" : (place.value[0] ?? "");
  const open = unresolved.value.length;
  return html`<header>
    <a class="brand" href="#/"><img src="/assets/icon.svg" alt="" width="28" height="28" /><span>Bellwether</span></a>
    <nav aria-label="Sections">
      ${TABS.filter((tab) => !tab.isForAdmins || isAdmin.value).map(
        (tab) => html`<a key=${tab.path} href=${`#/${tab.path}`} aria-current=${tab.path === here ? "page" : undefined}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d=${tab.icon} /></svg>
          <span>${tab.name}</span>
          ${tab.path === "incidents" && incidents.value && open > 0 && html`<b class="count" aria-label=${`${open} open`}>${open}</b>`}
        </a>`,
      )}
    </nav>
    <span class=${`live ${connection.value}`} role="status" title="The event stream from the host"><i aria-hidden="true"></i><span>${SAYS[connection.value]}</span></span>
    <button type="button" class="button quiet" title=${me.value ? `Signed in with the API key ${words(me.value.name)}` : ""} onClick=${() => signOut()}>Sign out</button>
  </header>`;
}

function View() {
  const [section, id] = place.value;
  switch (section) {
    case "nodes":
      return html`<${Node} key=${id} id=${id} />`;
    case "incidents":
      return id ? html`<${Incident} key=${id} id=${id} />` : html`<${Incidents} />`;
    case "plugins":
      return html`<${Plugins} />`;
    case "chains":
      return html`<${Chains} />`;
    case "access":
      return html`<${Access} page=${id} />`;
    default:
      return html`<${Fleet} />`;
  }
}

render(html`<${App} />`, document.getElementById("app"));
