// The frames of a series: fetched by DICOMweb ahead of their use, and kept within a limit.
import { request } from "./api.js";

const ROOT = "/dicom-web";
const MOST_BYTES = 256e6; // of frames in memory: about 500 slices of CT
const AT_ONCE = 6; // requests; a browser opens no more connections to a host
const AHEAD = 40, BEHIND = 8; // frames that are fetched before they are asked for
const MOST_ASKED = 16; // instances whose metadata is kept when each was asked for
const MOST_TOGETHER = 5000; // instances whose metadata is fetched by one request: 10 MB
const RAW = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1';

export const addressOf = (study, series, instance) =>
  `${ROOT}/studies/${study}/series/${series}` + (instance ? `/instances/${instance}` : "");

/** All frames in memory, of all series, the one used last at the end. */
const kept = new Map();
let bytes = 0;

function keep(key, frame) {
  kept.set(key, frame);
  bytes += frame.bytes;
  for (const [oldest, each] of kept) {
    if (bytes <= MOST_BYTES || oldest === key) break;
    kept.delete(oldest);
    bytes -= each.bytes;
    each.bitmap?.close();
  }
}

export class Frames {
  /** `images`: [{ uid, frames }], in order. */
  constructor(study, series, images) {
    this.study = study;
    this.series = series;
    this.list = images.flatMap(({ uid, frames }) => Array.from({ length: frames }, (_, n) => ({ uid, number: n + 1 })));
    this.wanted = []; // the places to fetch, the most urgent one first
    this.running = new Map(); // place -> promise
    this.instances = images.length;
    this.asked = new Map(); // UID -> metadata of the last instances; a multi-frame one has many frames
    this.failed = new Set(); // places that are not fetched ahead again
    this.waiting = new Map(); // place -> those who wait for it
  }

  get length() {
    return this.list.length;
  }

  key(place) {
    const { uid, number } = this.list[place];
    return `${this.series} ${uid} ${number}`;
  }

  /** The frame at a place if it is in memory. */
  present(place) {
    const key = this.key(place), frame = kept.get(key);
    if (frame) {
      kept.delete(key); // to the end of the order
      kept.set(key, frame);
    }
    return frame;
  }

  /** The frame at a place, as a promise; those that follow in a direction are fetched next. */
  async get(place, direction = 1) {
    this.failed.delete(place); // it is tried again for who asks for it
    this.plan(place, direction);
    const frame = this.present(place);
    if (frame) return frame;
    return new Promise((resolve, reject) => {
      this.waiting.set(place, [...(this.waiting.get(place) ?? []), { resolve, reject }]);
      this.fill();
    });
  }

  plan(place, direction) {
    const order = [place];
    for (let step = 1; step <= AHEAD; step++) {
      order.push(place + step * direction);
      if (step <= BEHIND) order.push(place - step * direction);
    }
    this.wanted = order.filter((each) => each >= 0 && each < this.length);
    this.fill();
  }

  fill() {
    while (this.running.size < AT_ONCE) {
      const isMissing = (place) => !kept.has(this.key(place)) && !this.running.has(place) && !this.failed.has(place);
      const next = this.wanted.find(isMissing);
      if (next === undefined) return;
      this.running.set(next, this.fetch(next));
    }
  }

  async fetch(place) {
    const waiting = () => {
      const those = this.waiting.get(place) ?? [];
      this.waiting.delete(place);
      return those;
    };
    try {
      const frame = await this.read(this.list[place]);
      keep(this.key(place), frame);
      waiting().forEach(({ resolve }) => resolve(frame));
      this.fetchAll();
    } catch (error) {
      this.failed.add(place);
      waiting().forEach(({ reject }) => reject(error));
    } finally {
      this.running.delete(place);
      this.fill();
    }
  }

  async read({ uid, number }) {
    const address = addressOf(this.study, this.series, uid);
    const dataset = await this.metadata(uid);
    const facts = factsOf(dataset, number);
    if (!facts.rows) throw new Error("This object has no image. Its attributes are in the list of tags (T).");
    if (facts.isGrey) {
      const response = await request(`${address}/frames/${number}`, { headers: { Accept: RAW } });
      const length = facts.rows * facts.columns * (facts.allocated / 8);
      const raw = partOf(await response.arrayBuffer(), length);
      return { ...facts, raw, bytes: length };
    }
    const response = await request(`${address}/frames/${number}/rendered`, { headers: { Accept: "image/png" } });
    const bitmap = await createImageBitmap(await response.blob());
    return { ...facts, bitmap, bytes: bitmap.width * bitmap.height * 4 };
  }

  /** The metadata of an instance (DICOM JSON model), as a promise. */
  async metadata(uid) {
    const all = await this.all;
    if (all?.has(uid)) return all.get(uid);
    if (!this.asked.has(uid)) {
      const found = datasets(addressOf(this.study, this.series, uid)).then(([dataset]) => dataset);
      found.catch(() => this.asked.delete(uid));
      this.asked.set(uid, found);
      if (this.asked.size > MOST_ASKED) this.asked.delete(this.asked.keys().next().value);
    }
    return this.asked.get(uid);
  }

  /** Fetch the metadata of the whole series, which costs a tenth of asking for each instance. */
  fetchAll() {
    if (this.all || this.instances < MOST_ASKED || this.instances > MOST_TOGETHER) return;
    this.all = datasets(addressOf(this.study, this.series)).then(
      (found) => new Map(found.map((dataset) => [dataset["00080018"]?.Value?.[0], dataset])),
      () => new Map(),
    );
  }
}

async function datasets(address) {
  const response = await request(address + "/metadata", { headers: { Accept: "application/dicom+json" } });
  return response.json();
}

/** The content of the first part of a multipart body. */
function partOf(buffer, length) {
  const head = new Uint8Array(buffer, 0, Math.min(buffer.byteLength, 4096));
  for (let at = 0; at + 3 < head.length; at++) {
    if (head[at] === 13 && head[at + 1] === 10 && head[at + 2] === 13 && head[at + 3] === 10) {
      if (at + 4 + length > buffer.byteLength) break;
      return buffer.slice(at + 4, at + 4 + length);
    }
  }
  throw new Error("The frame is shorter than its size says.");
}

// --- Facts of a frame ---

/** What is needed to show a frame; multi-frame objects have some of it in functional groups. */
function factsOf(dataset, number) {
  const groups = [dataset];
  const items = [dataset["52009230"]?.Value?.[number - 1], dataset["52009229"]?.Value?.[0]];
  for (const item of items) for (const each of Object.values(item ?? {})) if (each.vr === "SQ" && each.Value?.[0]) groups.push(each.Value[0]);
  const values = (tag) => groups.map((each) => each[tag]?.Value).find((each) => each?.length) ?? [];
  const numeric = (tag, or) => (values(tag).length ? Number(values(tag)[0]) : or);
  const photometric = values("00280004")[0] ?? "MONOCHROME2", allocated = numeric("00280100", 16);
  const rate = numeric("00082144") ?? numeric("00180040") ?? (numeric("00181063") ? 1000 / numeric("00181063") : undefined);
  const spacing = [values("00280030"), values("00181164"), values("00182010")].find((each) => each.length === 2);
  return {
    rows: numeric("00280010", 0),
    columns: numeric("00280011", 0),
    allocated,
    stored: numeric("00280101", allocated),
    isSigned: numeric("00280103", 0) === 1,
    isGrey: photometric.startsWith("MONOCHROME") && [8, 16].includes(allocated),
    isInverted: photometric === "MONOCHROME1",
    slope: numeric("00281053", 1) || 1,
    intercept: numeric("00281052", 0),
    center: numeric("00281050"),
    width: numeric("00281051"),
    modality: values("00080060")[0] ?? "",
    spacing: spacing?.map(Number), // between rows, between columns; mm
    isProjected: !values("00280030").length, // the spacing is that at the detector
    rate,
  };
}
