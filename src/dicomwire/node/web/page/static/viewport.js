// Shows one frame of a series on a canvas: window, zoom, pan and measured lines.
import { json } from "./api.js";
import { Frames } from "./frames.js";

const SLOWEST_LOADING = 150; // milliseconds after which the page says that it loads
const NEAR = 12; // pixels of the screen to the end of a line that is dragged

export class Viewport {
  constructor(element, onChange) {
    this.element = element;
    this.canvas = element.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.painted = document.createElement("canvas"); // the frame in its own size
    this.onChange = onChange;
    this.place = 0;
    this.shown = -1; // the place of the frame that is seen
    this.drawn = 0; // how many frames have been drawn
    this.lines = new Map(); // place -> lines, in pixels of the image
    this.reset();
    new ResizeObserver(() => this.draw()).observe(element);
  }

  reset() {
    Object.assign(this, { window: null, zoom: 1, x: 0, y: 0, inverted: false });
    this.draw();
  }

  async load(study, series, place = 0) {
    this.series = series;
    this.frames = this.frame = undefined;
    this.lines.clear();
    this.window = null;
    this.say("Loading…");
    try {
      const found = await json(`/api/studies/${study}/series/${series}`);
      if (this.series !== series) return;
      this.frames = new Frames(study, series, found.instances);
      this.place = -1;
      this.shown = -1;
      await this.show(place);
    } catch (error) {
      this.say(error.message);
    }
  }

  get length() {
    return this.frames?.length ?? 0;
  }

  /** Show the frame at a place; return whether that is still wanted when it is there. */
  async show(place) {
    if (!this.frames) return false;
    place = Math.max(0, Math.min(place, this.length - 1));
    const direction = place < this.place ? -1 : 1, frames = this.frames;
    if (place === this.place) return true;
    this.place = place;
    const late = setTimeout(() => this.place === place && this.say("Loading…"), SLOWEST_LOADING);
    try {
      const frame = await frames.get(place, direction);
      if (this.place !== place || this.frames !== frames) return false;
      this.frame = frame;
      this.shown = place;
      this.say("");
      this.draw();
    } catch (error) {
      if (this.place !== place || this.frames !== frames) return false;
      this.frame = undefined;
      this.shown = place;
      this.say(error.message);
      this.draw();
    } finally {
      clearTimeout(late);
    }
    return true;
  }

  say(text) {
    this.element.querySelector(".said").textContent = text;
  }

  // --- Drawing ---

  draw() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => {
      this.isScheduled = false;
      this.paint();
    });
  }

  paint() {
    const { context, canvas, element, frame } = this;
    const ratio = devicePixelRatio, width = Math.round(element.clientWidth * ratio), height = Math.round(element.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (frame) {
      this.paintFrame(frame);
      context.setTransform(...this.transform());
      context.imageSmoothingEnabled = this.scale() < 4;
      context.drawImage(this.painted, 0, 0);
      this.paintLines();
      this.drawn++;
    }
    this.describe();
    this.onChange(this);
  }

  paintFrame(frame) {
    const { painted } = this, { rows, columns } = frame;
    const look = [frame.center, frame.width, this.window?.center, this.window?.width, this.inverted].join();
    if (this.last?.frame === frame && this.last.look === look) return;
    this.last = { frame, look };
    if (painted.width !== columns || painted.height !== rows) {
      Object.assign(painted, { width: columns, height: rows });
      this.pen = painted.getContext("2d");
      this.image = this.pen.createImageData(columns, rows);
    }
    if (frame.bitmap) {
      this.pen.filter = this.inverted ? "invert(1)" : "none";
      this.pen.drawImage(frame.bitmap, 0, 0, columns, rows);
      return;
    }
    const table = this.table(frame), target = new Uint32Array(this.image.data.buffer);
    const source = frame.allocated === 8 ? new Uint8Array(frame.raw) : new Uint16Array(frame.raw);
    for (let at = 0; at < target.length; at++) target[at] = table[source[at]];
    this.pen.putImageData(this.image, 0, 0);
  }

  /** The colours of all stored values: modality and window (PS3.3 C.11.1 and C.11.2). */
  table(frame) {
    const { center, width } = this.windowOf(frame), dark = frame.isInverted !== this.inverted;
    const look = [frame.allocated, frame.stored, frame.isSigned, frame.slope, frame.intercept, center, width, dark].join();
    if (this.tableLook === look) return this.colours;
    this.tableLook = look;
    const number = 2 ** frame.allocated, spare = 32 - frame.stored;
    this.colours ??= new Uint32Array(2 ** 16);
    const low = center - 0.5 - (width - 1) / 2, range = Math.max(width - 1, 1e-6);
    for (let stored = 0; stored < number; stored++) {
      const value = (frame.isSigned ? (stored << spare) >> spare : (stored << spare) >>> spare) * frame.slope + frame.intercept;
      let grey = Math.round(Math.max(0, Math.min(1, (value - low) / range)) * 255);
      if (dark) grey = 255 - grey;
      this.colours[stored] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    return this.colours;
  }

  windowOf(frame = this.frame) {
    if (this.window) return this.window;
    if (frame.width > 0) return { center: frame.center, width: frame.width };
    frame.range ??= rangeOf(frame);
    return frame.range;
  }

  scale() {
    const { rows, columns, spacing } = this.frame, tall = spacing ? spacing[0] / spacing[1] : 1;
    return Math.min(this.canvas.width / columns, this.canvas.height / (rows * tall)) * this.zoom;
  }

  /** The transformation of pixels of the image to those of the canvas. */
  transform() {
    const { rows, columns, spacing } = this.frame, scale = this.scale(), tall = spacing ? spacing[0] / spacing[1] : 1;
    const left = this.canvas.width / 2 + this.x * devicePixelRatio - (columns * scale) / 2;
    const top = this.canvas.height / 2 + this.y * devicePixelRatio - (rows * scale * tall) / 2;
    return [scale, 0, 0, scale * tall, left, top];
  }

  /** A point of the screen in pixels of the image. */
  toImage(event) {
    const box = this.canvas.getBoundingClientRect(), [a, , , d, e, f] = this.transform();
    return { x: ((event.clientX - box.x) * devicePixelRatio - e) / a, y: ((event.clientY - box.y) * devicePixelRatio - f) / d };
  }

  zoomBy(factor) {
    this.zoom = Math.max(0.1, Math.min(this.zoom * factor, 40));
    this.draw();
  }

  windowBy(right, down) {
    if (!this.frame || this.frame.bitmap) return;
    const { center, width } = this.windowOf(), step = Math.max(width / 250, 0.01);
    this.window = { center: center + down * step, width: Math.max(width + right * step, 1) };
    this.draw();
  }

  // --- Lines ---

  startLine(point) {
    const lines = this.lines.get(this.place) ?? [], [a] = this.transform(), near = (NEAR * devicePixelRatio) / a;
    for (const line of lines)
      for (const end of ["from", "to"])
        if (Math.hypot(line[end].x - point.x, line[end].y - point.y) < near) return { line, end };
    const line = { from: point, to: point };
    this.lines.set(this.place, [...lines, line]);
    return { line, end: "to" };
  }

  /** Forget lines that have no length, and with `all` each. */
  tidyLines(all = false) {
    const lines = (this.lines.get(this.place) ?? []).filter((line) => !all && lengthOf(line, undefined) > 1);
    this.lines.set(this.place, lines);
    this.draw();
  }

  paintLines() {
    const { context } = this, [a, , , d, e, f] = this.transform();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.font = `${13 * devicePixelRatio}px system-ui, sans-serif`;
    for (const line of this.lines.get(this.place) ?? []) {
      const [x1, y1, x2, y2] = [line.from.x * a + e, line.from.y * d + f, line.to.x * a + e, line.to.y * d + f];
      for (const [colour, width] of [["#000", 4], ["#ffd54a", 2]]) {
        Object.assign(context, { strokeStyle: colour, lineWidth: width * devicePixelRatio, lineCap: "round" });
        context.beginPath();
        context.moveTo(x1, y1);
        context.lineTo(x2, y2);
        context.stroke();
      }
      Object.assign(context, { strokeStyle: "#000", lineWidth: 3 * devicePixelRatio, fillStyle: "#ffd54a" });
      const text = lengthText(line, this.frame), x = x2 + 8 * devicePixelRatio;
      context.strokeText(text, x, y2);
      context.fillText(text, x, y2);
    }
  }

  describe() {
    const { element, frame } = this, corner = (name) => element.querySelector("." + name);
    element.dataset.image = this.shown + 1;
    corner("where").textContent = this.frames ? `${this.shown + 1} / ${this.length}` : "";
    const parts = [];
    if (frame && !frame.bitmap) {
      const { center, width } = this.windowOf();
      parts.push(`Window ${Math.round(center)} / ${Math.round(width)}`);
    }
    if (frame) parts.push(`${Math.round(this.zoom * 100)} %`);
    const lines = (frame && this.lines.get(this.place)) ?? [];
    if (lines.length) parts.push(lines.map((line) => lengthText(line, frame)).join(", "));
    corner("how").textContent = parts.join("\n");
    this.canvas.setAttribute("aria-label", frame ? `Image ${this.shown + 1} of ${this.length}. ${parts.join(". ")}` : "No image");
  }
}

function lengthOf({ from, to }, spacing) {
  const [row, column] = spacing ?? [1, 1];
  return Math.hypot((to.x - from.x) * column, (to.y - from.y) * row);
}

function lengthText(line, frame) {
  if (!frame.spacing) return `${lengthOf(line).toFixed(0)} pixels`;
  const length = lengthOf(line, frame.spacing);
  return `${length < 100 ? length.toFixed(1) : length.toFixed(0)} mm${frame.isProjected ? " at the detector" : ""}`;
}

/** A window of all values of a frame. */
function rangeOf(frame) {
  const source = frame.allocated === 8 ? new Uint8Array(frame.raw) : new Uint16Array(frame.raw), spare = 32 - frame.stored;
  let low = Infinity, high = -Infinity;
  for (const stored of source) {
    const value = frame.isSigned ? (stored << spare) >> spare : (stored << spare) >>> spare;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  [low, high] = [low, high].map((value) => value * frame.slope + frame.intercept).sort((a, b) => a - b);
  return { center: (low + high + 1) / 2, width: Math.max(high - low + 1, 2) };
}
