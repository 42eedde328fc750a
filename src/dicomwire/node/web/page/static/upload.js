// Upload: files and folders, by STOW-RS (PS3.18 10.5), one file in each request.
import { byId, counted, json, make, Refused, size } from "./api.js";

const AT_ONCE = 4; // requests
const BOUNDARY = "dicomwire-"; // random digits follow: no file has it
const PREFIX = 132; // bytes: the preamble, then DICM (PS3.10 7.1)
const SHOWN = 500; // results in the table; of more, only those that failed
const waiting = [];
const done = { stored: 0, failed: 0, left: 0, bytes: 0 };
const studies = new Map();
let total = 0, bytes = 0, running = 0, shown = 0, stopper = new AbortController();

// --- Which files ---

async function* filesOf(entry) {
  if (entry.isFile) yield await new Promise((resolve, reject) => entry.file(resolve, reject));
  else if (entry.isDirectory) {
    const reader = entry.createReader();
    let some;
    do {
      some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      for (const each of some) yield* filesOf(each);
    } while (some.length); // a browser gives a hundred at a time
  }
}

function add(file) {
  waiting.push(file);
  total++;
  bytes += file.size;
  byId("uploading").hidden = false;
  fill();
}

async function isDicom(file) {
  const head = new Uint8Array(await file.slice(0, PREFIX).arrayBuffer());
  return String.fromCharCode(...head.slice(128, 132)) === "DICM" && file.name !== "DICOMDIR";
}

// --- Sending ---

function fill() {
  while (running < AT_ONCE && waiting.length) {
    running++;
    upload(waiting.shift()).finally(() => {
      running--;
      fill();
    });
  }
  report();
}

async function upload(file) {
  try {
    if (!(await isDicom(file))) {
      done.left++;
      return;
    }
    const result = await stored(file);
    done.stored++;
    if (result.study) studies.set(result.study, null);
    tell(file, result.text, "good");
  } catch (error) {
    if (error.name === "AbortError") return;
    done.failed++;
    tell(file, error instanceof Refused ? error.message : "The file cannot be read.", "wrong");
  } finally {
    done.bytes += file.size;
  }
}

function bodyOf(file, boundary) {
  const head = `--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`;
  return new Blob([head, file, `\r\n--${boundary}--\r\n`]);
}

/** Store a file; return the text to show, and its study. */
async function stored(file) {
  const boundary = BOUNDARY + crypto.getRandomValues(new Uint32Array(4)).join("");
  const response = await fetch("/dicom-web/studies", {
    method: "POST",
    body: bodyOf(file, boundary),
    signal: stopper.signal,
    headers: {
      "Content-Type": `multipart/related; type="application/dicom"; boundary=${boundary}`,
      Accept: "application/dicom+json",
    },
  }).catch((error) => {
    throw error.name === "AbortError" ? error : new Refused("The archive does not answer. Is it running?");
  });
  const answer = await response.json().catch(() => ({}));
  const [failed] = answer["00081198"]?.Value ?? [], [good] = answer["00081199"]?.Value ?? [];
  if (failed) throw new Refused(why(failed["00081197"]?.Value?.[0], failed));
  if (!response.ok) throw new Refused(answer.detail ?? `The archive has answered with status ${response.status}.`);
  const study = good?.["00081190"]?.Value?.[0]?.match(/studies\/([0-9.]+)/)?.[1];
  const warning = good?.["00081196"]?.Value?.[0];
  return { study, text: warning ? `Stored, with the warning 0x${hex(warning)}` : "Stored" };
}

const hex = (code) => code.toString(16).toUpperCase().padStart(4, "0");
const REASONS = {
  0x0111: "The archive has another object of this UID, and keeps that one.",
  0x0110: "The object cannot be processed.",
  0x0124: "Your account may not store this object.",
  0x0122: "The archive does not store objects of this kind.",
  0xa700: "The archive cannot store now. Try again later.",
  0xc122: "The transfer syntax is not supported.",
};
const REASON_OF = { 0xa9: "The UIDs or the Patient ID are invalid.", 0xc0: "The object cannot be read." };

function why(code, item) {
  const said = item["00000902"]?.Value?.[0];
  const text = REASONS[code] ?? REASON_OF[code >> 8] ?? "The archive has not stored it.";
  return `${said ?? text} (0x${hex(code ?? 0)})`;
}

// --- What is seen ---

function tell(file, text, kind) {
  if (kind === "good" && shown >= SHOWN) return;
  shown++;
  const name = file.webkitRelativePath || file.name;
  byId("outcomes").prepend(make("tr", {}, make("td", {}, name), make("td", { class: "number" }, size(file.size)), make("td", { class: kind }, text)));
}

function report() {
  const { stored: good, failed, left } = done, rest = total - good - failed - left;
  const parts = [`${counted(good, "object")} stored`];
  if (failed) parts.push(`${counted(failed, "file")} failed`);
  if (rest) parts.push(`${counted(rest, "file")} to do`);
  byId("uploading-title").textContent = parts.join(", ");
  byId("progress").value = bytes ? done.bytes / bytes : 0;
  byId("stop").hidden = !rest;
  byId("left-out").hidden = !left;
  byId("left-out").textContent = `${counted(left, "file")} left out: not DICOM, or the list of a disc.`;
  if (!rest && studies.size) links();
}

async function links() {
  const list = [...studies.keys()].slice(0, 20).map((uid) => make("a", { href: `/study/${uid}` }, "Study"));
  for (const [at, uid] of [...studies.keys()].slice(0, 20).entries()) {
    if (!studies.get(uid)) studies.set(uid, await json(`/api/studies/${uid}`).then((found) => found.title, () => "Study"));
    list[at].textContent = studies.get(uid);
  }
  byId("studies").replaceChildren(...list.flatMap((link) => [link, " "]));
}

// --- Where files come from ---

const drop = byId("drop");
byId("choose-files").addEventListener("click", () => byId("files").click());
byId("choose-folder").addEventListener("click", () => byId("folder").click());
for (const id of ["files", "folder"])
  byId(id).addEventListener("change", (event) => {
    for (const file of event.target.files) add(file);
    event.target.value = "";
  });
byId("stop").addEventListener("click", () => {
  total -= waiting.length + running;
  waiting.length = 0;
  stopper.abort();
  stopper = new AbortController();
  report();
});
for (const kind of ["dragenter", "dragover"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) for await (const file of filesOf(entry)) add(file);
});
window.addEventListener("beforeunload", (event) => running && event.preventDefault());
