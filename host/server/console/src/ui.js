// Small parts that every view uses.

import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import htm from "htm";
import { span, time, tone, words } from "./format.js";
import { now } from "./state.js";

export const html = htm.bind(h);

export const Badge = ({ state, label }) => html`<span class=${`badge ${tone(state)}`}><i aria-hidden="true"></i>${label ?? words(state)}</span>`;

/** How long ago, updated every second; the tooltip has the full time. */
export function Age({ at, suffix = " ago" }) {
  if (!at) return html`<span class="faint">never</span>`;
  return html`<time datetime=${at} title=${time(at)}>${span(now.value - Date.parse(at))}${suffix}</time>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong><div>${children}</div></div>`;

export const Skeleton = ({ rows = 3 }) =>
  html`<div class="skeleton" role="status" aria-label="Loading">${Array.from({ length: rows }, (_, row) => html`<div key=${row}></div>`)}</div>`;

export const Reasons = ({ reasons }) =>
  reasons.length > 0 &&
  html`<ul class="reasons">
    ${reasons.map((one) => html`<li key=${one.code + one.message}><code>${one.code}</code><span>${one.message}</span></li>`)}
  </ul>`;

/** The last few values as a line. */
export function Sparkline({ points }) {
  if (points.length < 2) return html`<svg class="spark" viewBox="0 0 100 28" aria-hidden="true"></svg>`;
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (at) => ((at - first) / (last - first || 1)) * 100;
  const y = (value) => (high === low ? 14 : 26 - ((value - low) / (high - low)) * 24);
  const line = points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return html`<svg class=${high === low ? "spark flat" : "spark"} viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">
    <polygon points=${`0,28 ${line} 100,28`} /><polyline points=${line} vector-effect="non-scaling-stroke" />
  </svg>`;
}

/** A button that shows when its action runs, and reports errors. */
export function Act({ run, children, kind = "", label }) {
  const [isBusy, setBusy] = useState(false);
  const click = async () => {
    setBusy(true);
    try {
      await run();
    } catch (error) {
      say(error.message, "bad");
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" class=${`button ${kind}`} aria-label=${label} disabled=${isBusy} aria-busy=${isBusy} onClick=${click}>${children}</button>`;
}

const toasts = signal([]);
let number = 0;

/** Shows a short message for a few seconds. */
export function say(text, kind = "good") {
  number += 1;
  const one = { id: number, text, kind };
  toasts.value = [...toasts.value, one].slice(-3);
  setTimeout(() => {
    toasts.value = toasts.value.filter((other) => other !== one);
  }, 8_000);
}

export const Toasts = () =>
  html`<div class="told" role="status" aria-live="polite">${toasts.value.map((one) => html`<p key=${one.id} class=${one.kind}>${one.text}</p>`)}</div>`;

/** Asks for confirmation before an action that can't be undone. */
export function Confirm({ title, children, action, onClose, run }) {
  const box = useRef(null);
  useEffect(() => {
    box.current.showModal();
  }, []);
  const done = async () => {
    await run();
    onClose();
  };
  return html`<dialog ref=${box} onClose=${onClose} aria-labelledby="confirm-title">
    <h2 id="confirm-title">${title}</h2>
    <div class="stack">${children}</div>
    <div class="row end">
      <button type="button" class="button" autofocus onClick=${onClose}>Cancel</button>
      <${Act} kind="danger" run=${done}>${action}</${Act}>
    </div>
  </dialog>`;
}

/** Reads data once per view and again when `again` changes; keeps the last answer meanwhile. */
export function useRead(read, again) {
  const [state, setState] = useState({ data: null, error: null });
  useEffect(() => {
    let isOver = false;
    read().then(
      (data) => isOver || setState({ data, error: null }),
      (error) => isOver || setState((before) => ({ ...before, error })),
    );
    return () => {
      isOver = true;
    };
  }, again);
  return state;
}
