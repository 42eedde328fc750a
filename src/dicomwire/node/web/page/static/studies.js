// The list of studies: searches as one types, and keeps the search in the address.
import { byId, counted, request } from "./api.js";
import { download, remove, send, tell } from "./dialogs.js";

const DELAY = 200; // milliseconds after the last key

const form = byId("search"), results = byId("results"), bar = byId("chosen");
const chosen = new Set();
let all = false; // whether all that were found are chosen, beyond this page
let timer, running;

function query() {
  const values = [...new FormData(form)].filter(([, value]) => value.trim());
  return new URLSearchParams(values).toString();
}

async function load(search) {
  running?.abort();
  const mine = (running = new AbortController());
  results.setAttribute("aria-busy", "true");
  try {
    const response = await request("/results?" + search, { signal: mine.signal });
    results.innerHTML = await response.text();
    choose([...chosen], false);
  } catch (error) {
    if (error.name === "AbortError") return;
    tell(error.message);
  } finally {
    if (running === mine) results.removeAttribute("aria-busy");
  }
}

function search() {
  const next = query();
  history.replaceState(null, "", next ? "/?" + next : "/");
  load(next);
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, DELAY);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  search();
});

// --- What is chosen ---

const boxes = () => [...results.querySelectorAll("input[name=study]")];
const total = () => Number(results.querySelector(".summary strong")?.textContent.replace(/\D/g, "") ?? 0);
const number = () => (all ? total() : chosen.size);
const subject = () => (all ? { search: location.search.slice(1) } : { studies: [...chosen] });

function choose(uids, every) {
  chosen.clear();
  uids.forEach((uid) => chosen.add(uid));
  all = every;
  for (const box of boxes()) box.checked = all || chosen.has(box.value);
  const onPage = boxes().filter((box) => box.checked).length;
  const head = byId("choose-all");
  if (head) {
    head.checked = onPage > 0 && onPage === boxes().length;
    head.indeterminate = onPage > 0 && !head.checked;
  }
  bar.hidden = !number();
  byId("chosen-number").textContent = `${counted(number(), "study", "studies")} chosen`;
  const more = byId("choose-found");
  more.hidden = all || !head?.checked || total() <= boxes().length;
  more.textContent = `Choose all ${total().toLocaleString("en").replaceAll(",", "\u202f")} that were found`;
}

results.addEventListener("change", (event) => {
  const onPage = boxes().map((box) => box.value);
  if (event.target.id === "choose-all") {
    const others = [...chosen].filter((uid) => !onPage.includes(uid));
    choose(event.target.checked ? [...others, ...onPage] : others, false);
  } else if (event.target.name === "study") {
    const now = boxes().filter((box) => box.checked).map((box) => box.value);
    choose([...[...chosen].filter((uid) => !onPage.includes(uid)), ...now], false);
  }
});
byId("choose-found").addEventListener("click", () => choose([], true));
bar.addEventListener("click", (event) => {
  const action = event.target.dataset.action;
  if (action === "none") choose([], false);
  if (action === "zip") download(subject());
  if (action === "send") send(subject(), number());
  if (action === "delete")
    remove(subject(), number(), (text) => {
      choose([], false);
      load(location.search.slice(1));
      tell(text);
    });
});

// A click anywhere in a row opens its study; "/" goes to the search.
results.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (!row || event.target.closest("a, input, td.choose") || getSelection().toString()) return;
  row.querySelector("a").click();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, dialog")) {
    event.preventDefault();
    form.elements.q.select();
  }
});
window.addEventListener("pageshow", () => {
  sessionStorage.setItem("list", location.pathname + location.search); // where "Studies" leads back to
  choose(boxes().filter((box) => box.checked).map((box) => box.value), false);
});
window.addEventListener("pagehide", () => sessionStorage.setItem("list", location.pathname + location.search));
