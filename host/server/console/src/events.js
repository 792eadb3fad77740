// The event stream. `EventSource` can't send a key in a header, and a key must not be in a URL, so this module reads
// the stream itself.

import { ApiError, key, open } from "./api.js";

/** The host sends at least a comment every 15 s; longer silence means a dead connection. */
const SILENCE_MS = 40_000;
const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 15_000;

/**
 * Follows the stream until `stop` is called, and reconnects at the last position.
 * `onEvent(kind, event)`, `onState("connecting" | "live" | "lost")`; `onGap()` when something may have been missed.
 */
export function follow({ onEvent, onState, onGap }) {
  let last = null;
  let stopped = false;
  let current = null;
  let wake = null;

  const run = async () => {
    let failures = 0;
    onState("connecting");
    while (!stopped) {
      current = new AbortController();
      try {
        await once(current, last, (message) => {
          if (message.id !== null) last = message.id;
          if (message.event === "connected") {
            failures = 0;
            onState("live");
            onGap();
          } else if (message.event !== "cut" && message.data) {
            onEvent(message.event, JSON.parse(message.data));
          }
        });
      } catch (error) {
        if (stopped) break;
        // The host may no longer have this position: start without one, and read everything again.
        if (error instanceof ApiError && error.status >= 400 && error.status < 500) last = null;
        failures += 1;
      }
      if (stopped || !key.value) break;
      if (failures > 0) onState("lost");
      const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** failures);
      await new Promise((done) => {
        wake = done;
        setTimeout(done, most / 2 + (Math.random() * most) / 2);
      });
    }
  };
  const hurry = () => wake?.();
  addEventListener("online", hurry);
  run();

  return () => {
    stopped = true;
    removeEventListener("online", hurry);
    current?.abort();
    hurry();
  };
}

async function once(controller, last, onMessage) {
  let watch = null;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => controller.abort(), SILENCE_MS);
  };
  alive();
  try {
    const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
    const body = await open("/events", { headers, signal: controller.signal });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = parser(onMessage);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      parse(value);
    }
  } finally {
    clearTimeout(watch);
    controller.abort();
  }
}

/** Parses text in arbitrary pieces into whole messages. */
export function parser(onMessage) {
  let rest = "";
  let message = { event: "message", id: null, data: [] };
  return (text) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (message.data.length > 0 || message.id !== null) onMessage({ ...message, data: message.data.join("\n") });
        message = { event: "message", id: null, data: [] };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") message.event = value;
      else if (field === "id") message.id = value;
      else if (field === "data") message.data.push(value);
    }
  };
}
