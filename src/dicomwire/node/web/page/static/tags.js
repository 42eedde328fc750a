// The list of the attributes of an object, with their names.
import { json, make } from "./api.js";

const MOST_TEXT = 200, MOST_ROWS = 2000, MOST_NAMED = 400;
const names = new Map();

/** Show a dataset (DICOM JSON model) in a table's body. */
export async function showTags(body, dataset) {
  const rows = [...rowsOf(dataset, 0)].slice(0, MOST_ROWS);
  const unknown = [...new Set(rows.map((row) => row.tag))].filter((tag) => tag && !names.has(tag));
  for (let at = 0; at < unknown.length; at += MOST_NAMED) {
    const found = await json("/api/names?tags=" + unknown.slice(at, at + MOST_NAMED).join());
    for (const [tag, name] of Object.entries(found)) names.set(tag, name);
  }
  body.replaceChildren(
    ...rows.map(({ tag, vr, text, depth }) => {
      const row = make("tr", {}, make("td", {}, tag ? `${tag.slice(0, 4)},${tag.slice(4)}` : ""));
      const name = make("td", { class: `depth${Math.min(depth, 4)}` }, (tag && names.get(tag)) || (tag ? "Private" : text));
      row.append(name, make("td", {}, vr), make("td", {}, tag ? text : ""));
      return row;
    }),
  );
}

function* rowsOf(dataset, depth) {
  for (const tag of Object.keys(dataset).sort()) {
    const { vr, Value: values = [], BulkDataURI: bulk, InlineBinary: inline } = dataset[tag];
    if (vr === "SQ") {
      yield { tag, vr, text: `${values.length} item${values.length === 1 ? "" : "s"}`, depth };
      for (const [at, item] of values.entries()) {
        yield { tag: "", vr: "", text: `Item ${at + 1}`, depth: depth + 1 };
        yield* rowsOf(item ?? {}, depth + 1);
      }
    } else yield { tag, vr, text: bulk || inline ? "binary" : textOf(values), depth };
  }
}

function textOf(values) {
  const one = (value) => (value && typeof value === "object" ? Object.values(value).join(" = ") : String(value ?? ""));
  const text = values.map(one).join(" \\ ");
  return text.length > MOST_TEXT ? text.slice(0, MOST_TEXT) + "…" : text;
}
