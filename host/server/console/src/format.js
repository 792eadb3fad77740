// Formats words, numbers and times for people.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export const time = (text) => full.format(new Date(text));

/** `node_down` becomes `node down`. */
export const words = (code) => String(code ?? "").replaceAll("_", " ");

export const shortDigest = (digest) => String(digest ?? "").replace(/^sha256:/, "").slice(0, 12);

export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m`;
  return `${Math.floor(s / 86_400)}d ${Math.floor((s % 86_400) / 3600)}h`;
}

function bytes(value) {
  let rest = Math.abs(value);
  let unit = 0;
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${value < 0 ? "-" : ""}${rest.toFixed(rest < 10 && unit > 0 ? 1 : 0)} ${UNITS[unit]}`;
}

/** Formats a measured value by the unit in its name. */
export function measured(name, value) {
  if (value === null || value === undefined) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_pct")) return `${number.format(value)} %`;
  if (name.endsWith("_ms")) return `${number.format(value)} ms`;
  if (name.endsWith("_s")) return span(value * 1000);
  return number.format(value);
}

/** The colour of a state. The text also names each state, so colour is never the only sign. */
export function tone(state) {
  switch (state) {
    case "healthy":
    case "ok":
    case "synced":
    case "succeeded":
    case "done":
    case "active":
    case "resolved":
    case "running":
    case "delivered":
    case "connected":
      return "good";
    case "degraded":
    case "warning":
    case "acknowledged":
    case "backing_off":
    case "undoing":
    case "stuck":
      return "warn";
    case "critical":
    case "down":
    case "failed":
    case "open":
    case "escalated":
    case "rejected":
    case "broken":
    case "firing":
      return "bad";
    case "provisioning":
    case "syncing":
    case "terminating":
    case "maintenance":
    case "staged":
    case "validated":
    case "ready":
    case "info":
    case "pending":
    case "queued":
    case "accepted":
      return "busy";
    default:
      return "calm";
  }
}
