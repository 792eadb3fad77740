// The chart of a node's observation: reads the past once and adds live values.

import { useEffect, useRef, useState } from "preact/hooks";
import { effect } from "@preact/signals";
import uPlot from "uplot";
import { get } from "./api.js";
import { measured } from "./format.js";
import { HEIGHT, pulse } from "./state.js";
import { Age, html } from "./ui.js";

const WINDOWS = [
  { name: "15 min", ms: 900_000 },
  { name: "1 h", ms: 3_600_000 },
  { name: "6 h", ms: 21_600_000 },
  { name: "24 h", ms: 86_400_000 },
];
const POINTS = 5_000;
const TALL = 260;

export function Chart({ node }) {
  const [name, setName] = useState(HEIGHT);
  const [ms, setMs] = useState(WINDOWS[0].ms);
  const [said, setSaid] = useState("Loading…");
  const box = useRef(null);
  useEffect(() => draw(box.current, node.id, name, ms, setSaid), [node.id, name, ms]);

  const numeric = Object.entries(node.observations).filter(([, one]) => typeof one.value === "number").map(([one]) => one);
  const names = [...new Set([HEIGHT, name, ...numeric.sort()])];
  const newest = node.observations[name];
  return html`
    <div class="row wrap">
      <h2 class="sr">Chart</h2>
      <select aria-label="Observation" value=${name} onChange=${(event) => setName(event.currentTarget.value)}>
        ${names.map((one) => html`<option key=${one} value=${one}>${one === HEIGHT ? "Height" : one}</option>`)}
      </select>
      <span class="big number" data-newest=${newest?.value ?? ""}>${newest ? measured(name, newest.value) : ""}</span>
      <small class="faint">${newest && html`<${Age} at=${newest.at} />`}</small>
      <span class="grow"></span>
      <div class="segments" role="group" aria-label="Window">
        ${WINDOWS.map((one) => html`<button key=${one.ms} type="button" aria-pressed=${one.ms === ms} onClick=${() => setMs(one.ms)}>${one.name}</button>`)}
      </div>
    </div>
    <div class="chart" ref=${box} role="img" aria-label=${`${name} over time${newest ? `, now ${measured(name, newest.value)}` : ""}`}>
      ${said && html`<p class="muted center">${said}</p>`}
    </div>
  `;
}

/** Draws the chart and follows live values, width and colour scheme; returns a function that stops. */
function draw(box, node, name, ms, setSaid) {
  let times = [];
  let values = [];
  let plot = null;
  let isOver = false;

  const show = () => {
    const end = Date.now() / 1000;
    const first = times.findIndex((at) => at >= end - ms / 1000);
    if (first > 0) {
      times = times.slice(first);
      values = values.slice(first);
    }
    setSaid(times.length === 0 ? "No values in this period. Choose a longer period, or wait for the next value." : null);
    if (times.length === 0) return;
    plot ??= new uPlot(options(box, name), [times, values], box);
    plot.setData([times, values]);
  };
  const restyle = () => {
    plot?.destroy();
    plot = null;
    if (times.length > 0) show();
  };
  const resize = new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: TALL }));
  resize.observe(box);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", restyle);

  setSaid("Loading…");
  const from = new Date(Date.now() - ms).toISOString();
  get(`/nodes/${node}/observations?name=${encodeURIComponent(name)}&from=${from}&limit=${POINTS}`).then(
    (past) => {
      if (isOver) return;
      const numbers = past.filter((one) => typeof one.value === "number");
      const last = numbers.length > 0 ? Date.parse(numbers.at(-1).at) / 1000 : 0;
      const live = times.map((at, index) => [at, values[index]]).filter(([at]) => at > last);
      times = [...numbers.map((one) => Date.parse(one.at) / 1000), ...live.map(([at]) => at)];
      values = [...numbers.map((one) => one.value), ...live.map(([, value]) => value)];
      show();
    },
    (error) => isOver || setSaid(error.message),
  );

  const unfollow = effect(() => {
    if (pulse.value?.node !== node) return;
    const one = pulse.value.values[name];
    const at = typeof one?.value === "number" ? Date.parse(one.at) / 1000 : 0;
    if (at > (times.at(-1) ?? 0)) {
      times = [...times, at];
      values = [...values, one.value];
    }
    if (times.length > 0) show();
  });

  return () => {
    isOver = true;
    unfollow();
    resize.disconnect();
    scheme.removeEventListener("change", restyle);
    plot?.destroy();
  };
}

function options(box, name) {
  const style = getComputedStyle(document.documentElement);
  const colour = (token) => style.getPropertyValue(token).trim();
  const axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: `12px ${style.fontFamily}`,
  };
  const widest = (plot, texts) => Math.max(44, ...(texts ?? []).map((text) => text.length * 7.500 + 14));
  return {
    width: box.clientWidth,
    height: TALL,
    legend: { show: false },
    cursor: { y: false, points: { size: 8 } },
    // The axis ends now, so that a silent chain shows as a gap.
    scales: { x: { range: (plot, low, high) => [low, Math.max(high, Date.now() / 1000)] }, y: { range: (plot, low, high) => around(low, high) } },
    axes: [
      { ...axis, space: 80, size: 32, values: (plot, ticks) => clock(ticks) },
      { ...axis, size: widest, values: (plot, ticks) => ticks.map((tick) => (Number.isInteger(tick) || name !== HEIGHT ? measured(name, tick) : "")) },
    ],
    series: [
      {},
      { label: name, stroke: colour("--accent"), width: 2, fill: colour("--accent-faint"), points: { show: false }, paths: uPlot.paths.linear() },
    ],
    plugins: [tip(name)],
  };
}

/** Shows seconds only where ticks need them. */
function clock(ticks) {
  const isFine = ticks.some((at) => at % 60 !== 0);
  const form = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: isFine ? "2-digit" : undefined, hour12: false });
  return ticks.map((at) => form.format(new Date(at * 1000)));
}

/** Adds a margin around the line, and centres a flat one. */
function around(low, high) {
  const air = (high - low) * 0.08 || Math.max(1, Math.abs(high) * 0.01);
  return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
}

/** The value under the pointer. */
function tip(name) {
  const box = document.createElement("div");
  box.className = "tip";
  return {
    hooks: {
      init: (plot) => plot.over.append(box),
      setCursor: (plot) => {
        const { idx, left } = plot.cursor;
        const at = idx === null || idx === undefined || left < 0 ? undefined : plot.data[0][idx];
        box.hidden = at === undefined;
        if (at === undefined) return;
        box.textContent = `${measured(name, plot.data[1][idx])} at ${new Date(at * 1000).toLocaleTimeString()}`;
        const isRight = left > plot.over.clientWidth / 2;
        box.style.left = isRight ? "auto" : `${left + 12}px`;
        box.style.right = isRight ? `${plot.over.clientWidth - left + 12}px` : "auto";
      },
    },
  };
}
