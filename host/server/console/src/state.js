// The last known state of the host. Views read these signals; the event stream and slow polling update them.

import { batch, computed, signal } from "@preact/signals";
import { all, get, key } from "./api.js";
import { follow } from "./events.js";

/** Heartbeats and counters cause no events, so the console polls them this often while the page is visible. */
const LOOK_MS = 5_000;
/** Bursts of events cause one read. */
const SETTLE_MS = 250;
const SPARK_POINTS = 60;
const SPARK_NODES = 60;
export const HEIGHT = "node.height";

export const me = signal(null);
export const nodes = signal(null);
export const incidents = signal(null);
export const plugins = signal(null);
export const chains = signal(null);
export const failure = signal(null);
export const connection = signal("connecting");
export const now = signal(Date.now());
/** Newest heights by node: `{id: [[seconds, height], …]}`. */
export const sparks = signal({});
/** Counts up on each event of a node, so that its page reads again. */
export const touched = signal({});
/** The newest live values: `{node, values: {name: {at, value}}}`. */
export const pulse = signal(null);

export const unresolved = computed(() => (incidents.value ?? []).filter((one) => one.state !== "resolved"));
export const isAdmin = computed(() => me.value?.scopes.includes("admin") ?? false);
export const may = (scope) => isAdmin.value || (me.value?.scopes.includes(scope) ?? false);

setInterval(() => {
  now.value = Date.now();
}, 1000);

/** Starts to follow the host; returns a function that stops. */
export function begin() {
  const unfollow = follow({
    onEvent: take,
    onState: (state) => {
      connection.value = state;
    },
    onGap: readAll,
  });
  readAll();
  const look = setInterval(() => {
    if (document.visibilityState === "visible") readMoving();
  }, LOOK_MS);
  const seen = () => document.visibilityState === "visible" && readMoving();
  document.addEventListener("visibilitychange", seen);
  return () => {
    unfollow();
    clearInterval(look);
    document.removeEventListener("visibilitychange", seen);
    batch(() => {
      for (const known of [me, nodes, incidents, plugins, chains, failure]) known.value = null;
      sparks.value = {};
    });
  };
}

export const readNodes = settled("nodes:read", async () => {
  const list = await all("/nodes");
  nodes.value = Object.fromEntries(list.map((node) => [node.id, node]));
  readSparks(list);
});
export const readIncidents = settled("incidents:read", async () => {
  // Many resolved incidents must never hide an open one.
  const [open, recent] = await Promise.all([all("/incidents?unresolved=true"), get("/incidents?limit=100")]);
  const isOpen = new Set(open.map((one) => one.id));
  incidents.value = [...open, ...recent.items.filter((one) => !isOpen.has(one.id))];
});
export const readPlugins = settled("nodes:read", async () => {
  plugins.value = (await get("/plugins")).items;
});
const readChains = settled("nodes:read", async () => {
  chains.value = (await get("/chains")).items;
});
const readMe = settled(null, async () => {
  me.value = await get("/me");
});

function readMoving() {
  readNodes();
  readIncidents();
  readPlugins();
}

function readAll() {
  readMe();
  readMoving();
  readChains();
}

/** Runs `read` soon, once for many calls, never concurrently, and not when the key is known to lack `scope`. */
function settled(scope, read) {
  let timer = null;
  let isRunning = false;
  let again = false;
  const run = async () => {
    timer = null;
    if (isRunning) {
      again = true;
      return;
    }
    isRunning = true;
    try {
      if (key.value && !(scope && me.value && !may(scope))) await read();
      failure.value = null;
    } catch (error) {
      if (key.value) failure.value = error.message;
    } finally {
      isRunning = false;
      if (again) {
        again = false;
        timer ??= setTimeout(run, SETTLE_MS);
      }
    }
  };
  return () => {
    timer ??= setTimeout(run, SETTLE_MS);
  };
}

/** The past of the sparklines, read once per node; live values continue them. */
async function readSparks(list) {
  const unknown = list.filter((node) => !sparks.value[node.id] && node.state !== "terminated").slice(0, SPARK_NODES);
  if (unknown.length === 0) return;
  sparks.value = { ...sparks.value, ...Object.fromEntries(unknown.map((node) => [node.id, []])) };
  await Promise.all(
    unknown.map(async (node) => {
      const past = await get(`/nodes/${node.id}/observations?name=${HEIGHT}&limit=${SPARK_POINTS}`).catch(() => []);
      const points = past.filter((one) => typeof one.value === "number").map((one) => [Date.parse(one.at) / 1000, one.value]);
      sparks.value = { ...sparks.value, [node.id]: joined(points, sparks.value[node.id] ?? []) };
    }),
  );
}

function joined(before, after) {
  const last = before.at(-1)?.[0] ?? 0;
  return [...before, ...after.filter(([at]) => at > last)].slice(-SPARK_POINTS);
}

function take(kind, event) {
  switch (kind) {
    case "observation":
      takeObservation(event);
      break;
    case "node_transition":
    case "node_event":
    case "operation":
      touch(event.node_id);
      readNodes();
      break;
    case "incident":
      touch(event.node_id);
      readIncidents();
      break;
    case "plugin":
      readPlugins();
      break;
  }
}

function touch(node) {
  if (node) touched.value = { ...touched.value, [node]: (touched.value[node] ?? 0) + 1 };
}

function takeObservation(event) {
  const values = event.data;
  batch(() => {
    const node = nodes.value?.[event.node_id];
    if (node) {
      nodes.value = { ...nodes.value, [node.id]: { ...node, observations: { ...node.observations, ...values } } };
    }
    const height = values[HEIGHT];
    if (typeof height?.value === "number") {
      const point = [Date.parse(height.at) / 1000, height.value];
      sparks.value = { ...sparks.value, [event.node_id]: joined(sparks.value[event.node_id] ?? [], [point]) };
    }
    pulse.value = { node: event.node_id, values };
  });
}
