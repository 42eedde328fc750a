// The viewer: series, tools, keys. `viewport` draws, `frames` fetches.
import { byId, counted } from "./api.js";
import { showTags } from "./tags.js";
import { Viewport } from "./viewport.js";

const study = byId("viewer").dataset.study;
const series = [...document.querySelectorAll(".strip button")];
const PAGE = 10; // images that a page key goes on
const viewports = [...document.querySelectorAll(".viewport")].map((element) => new Viewport(element, changed));
let active = viewports[0], tool = "window", cine = null, saving;

// --- Series ---

function load(button, viewport = active, place = 0) {
  if (!button) return;
  stop();
  viewport.load(study, button.dataset.series, place);
  viewport.element.querySelector(".what").textContent = button.dataset.what;
  mark();
}

function mark() {
  for (const button of series) button.setAttribute("aria-current", button.dataset.series === active.series);
  for (const each of viewports) each.element.classList.toggle("active", each === active && !viewports[1].element.hidden);
}

function activate(viewport) {
  if (active === viewport) return;
  stop();
  active = viewport;
  mark();
  changed(active);
}

function turn(step) {
  const at = series.findIndex((button) => button.dataset.series === active.series);
  const next = series[at + step];
  load(next);
  next?.scrollIntoView({ block: "nearest" });
}

function changed(viewport) {
  if (viewport !== active) return;
  const place = byId("place");
  place.max = Math.max(active.length, 1);
  place.value = active.place + 1;
  place.setAttribute("aria-valuetext", `${active.place + 1} of ${active.length}`);
  byId("presets").hidden = active.frame?.modality !== "CT";
  clearTimeout(saving);
  saving = setTimeout(save, 300);
}

function save() {
  if (!active.series) return;
  history.replaceState(null, "", `?series=${active.series}&image=${active.place + 1}`);
  if (!byId("tags").hidden) tags();
}

// --- Moving images ---

function stop() {
  cine = null;
  byId("play").setAttribute("aria-pressed", "false");
}

async function play() {
  if (cine) return stop();
  const mine = (cine = {}), viewport = active, times = [];
  byId("play").setAttribute("aria-pressed", "true");
  if (viewport.frame?.rate) byId("rate").value = Math.round(viewport.frame.rate);
  let due = performance.now();
  while (cine === mine && viewport.length > 1) {
    await viewport.show((viewport.place + 1) % viewport.length);
    due = Math.max(due + 1000 / Math.max(Number(byId("rate").value), 1), performance.now() - 100);
    do await new Promise(requestAnimationFrame);
    while (performance.now() < due - 4);
    times.push(performance.now());
    if (times.length > 30) times.shift();
    if (times.length > 5) byId("reached").textContent = `${((times.length - 1) * 1000 / (times.at(-1) - times[0])).toFixed(0)} images/s`;
  }
  byId("reached").textContent = "";
}

// --- Tools ---

function choose(name) {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === name);
}

for (const viewport of viewports) {
  const { element } = viewport, pointers = new Map();
  let line, rest = 0, wheel = 0;
  element.addEventListener("pointerdown", (event) => {
    activate(viewport);
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (pointers.size === 1 && toolOf(event) === "measure" && viewport.frame) line = viewport.startLine(viewport.toImage(event));
  });
  element.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before || !viewport.frame) return;
    pointers.set(event.pointerId, event);
    const right = event.clientX - before.clientX, down = event.clientY - before.clientY;
    if (pointers.size === 2) return pinch(before, event);
    const used = toolOf(event);
    if (line) {
      line.line[line.end] = viewport.toImage(event);
      viewport.draw();
    } else if (used === "window") viewport.windowBy(right, down);
    else if (used === "zoom") viewport.zoomBy(1.01 ** -down);
    else if (used === "pan") move(viewport, right, down);
    else if (used === "scroll") {
      rest += down;
      const steps = Math.trunc(rest / 6);
      rest -= steps * 6;
      if (steps) viewport.show(viewport.place + steps);
    }
  });
  for (const kind of ["pointerup", "pointercancel"])
    element.addEventListener(kind, (event) => {
      pointers.delete(event.pointerId);
      if (line) viewport.tidyLines();
      line = undefined;
      rest = 0;
    });
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    activate(viewport);
    if (event.ctrlKey) return viewport.zoomBy(1.002 ** -event.deltaY);
    stop();
    wheel += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(wheel / 40) || (Math.abs(event.deltaY) >= 4 && Math.sign(event.deltaY)) || 0;
    if (steps) wheel = 0;
    if (steps) viewport.show(viewport.place + steps);
  }, { passive: false });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("focus", () => activate(viewport));

  function pinch(before, now) {
    const other = [...pointers.values()].find((each) => each.pointerId !== now.pointerId);
    const apart = (event) => Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
    viewport.zoomBy(apart(now) / Math.max(apart(before), 1));
    move(viewport, (now.clientX - before.clientX) / 2, (now.clientY - before.clientY) / 2);
  }
}

const toolOf = (event) => (event.buttons & 4 ? "pan" : event.buttons & 2 ? "zoom" : tool);

function move(viewport, right, down) {
  viewport.x += right;
  viewport.y += down;
  viewport.draw();
}

function preset(text) {
  if (!text) active.window = null;
  else {
    const [center, width] = text.split(" ").map(Number);
    active.window = { center, width };
  }
  active.draw();
}

function split() {
  const second = viewports[1], { hidden } = second.element;
  second.element.hidden = !hidden;
  byId("split").setAttribute("aria-pressed", hidden);
  if (hidden && !second.series) {
    const at = series.findIndex((button) => button.dataset.series === active.series);
    load(series[at + 1] ?? series[at], second);
  }
  activate(viewports[0]);
  mark();
}

async function tags() {
  const panel = byId("tags"), body = panel.querySelector("tbody"), { frames, place } = active;
  if (!frames?.length) return;
  const { uid } = frames.list[Math.max(place, 0)];
  if (panel.dataset.uid === uid) return;
  panel.dataset.uid = uid;
  try {
    await showTags(body, await frames.metadata(uid));
    filter();
  } catch (error) {
    delete panel.dataset.uid;
    panel.querySelector("[role=status]").textContent = error.message;
  }
}

function filter() {
  const text = byId("filter").value.toLowerCase(), rows = [...byId("tags").querySelectorAll("tbody tr")];
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(text);
  byId("tags").querySelector("[role=status]").textContent = counted(rows.filter((row) => !row.hidden).length, "attribute");
}

function toggleTags() {
  const panel = byId("tags");
  panel.hidden = !panel.hidden;
  byId("show-tags").setAttribute("aria-pressed", !panel.hidden);
  if (!panel.hidden) {
    tags();
    byId("filter").focus();
  } else active.element.focus();
}

const acts = {
  reset: () => active.reset(),
  invert: () => { active.inverted = !active.inverted; active.draw(); },
  clear: () => active.tidyLines(true),
  play, split,
  tags: toggleTags,
  help: () => byId("help").showModal(),
  close: () => location.assign(byId("back").href),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.tool) choose(button.dataset.tool);
  if (button.dataset.series) load(button);
  if (button.dataset.act) acts[button.dataset.act]();
});
byId("preset").addEventListener("change", (event) => preset(event.target.value));
byId("place").addEventListener("input", (event) => { stop(); active.show(Number(event.target.value) - 1); });
byId("filter").addEventListener("input", filter);

// --- Keys ---

const go = (step) => () => { stop(); active.show(active.place + step); };
const keys = {
  ArrowDown: go(1), ArrowRight: go(1), ArrowUp: go(-1), ArrowLeft: go(-1), PageDown: go(PAGE), PageUp: go(-PAGE),
  Home: () => { stop(); active.show(0); }, End: () => { stop(); active.show(active.length - 1); },
  "Shift+ArrowRight": () => active.windowBy(10, 0), "Shift+ArrowLeft": () => active.windowBy(-10, 0),
  "Shift+ArrowDown": () => active.windowBy(0, 10), "Shift+ArrowUp": () => active.windowBy(0, -10),
  "Control+ArrowRight": () => move(active, 20, 0), "Control+ArrowLeft": () => move(active, -20, 0),
  "Control+ArrowDown": () => move(active, 0, 20), "Control+ArrowUp": () => move(active, 0, -20),
  "+": () => active.zoomBy(1.2), "=": () => active.zoomBy(1.2), "-": () => active.zoomBy(1 / 1.2),
  w: () => choose("window"), s: () => choose("scroll"), z: () => choose("zoom"), p: () => choose("pan"), m: () => choose("measure"),
  r: acts.reset, i: acts.invert, Delete: acts.clear, " ": play, d: split, t: toggleTags, "?": acts.help,
  "[": () => turn(-1), "]": () => turn(1), Escape: acts.close,
  0: () => preset(""),
};
[...byId("preset").options].slice(1).forEach((option, at) => (keys[at + 1] = () => active.frame?.modality === "CT" && preset(option.value)));

document.addEventListener("keydown", (event) => {
  if (event.target.closest("dialog")) return;
  if (event.target.id === "filter") return event.key === "Escape" && toggleTags();
  const isControl = event.target.matches("input, select, button, a");
  if (isControl && ["Enter", " "].includes(event.key)) return;
  if (event.target.matches("input, select") && !/^[a-z?[\]]$/.test(event.key)) return;
  const prefix = event.ctrlKey ? "Control+" : event.shiftKey && event.key.startsWith("Arrow") ? "Shift+" : "";
  const act = event.altKey || event.metaKey ? undefined : keys[prefix + event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// --- The beginning ---

const asked = new URLSearchParams(location.search);
const isFirst = (button) => button.dataset.series === asked.get("series");
choose("window");
load(series.find(isFirst) ?? series.find((button) => button.dataset.images) ?? series[0], active, Math.max(Number(asked.get("image") ?? 1), 1) - 1);
active.element.focus();
