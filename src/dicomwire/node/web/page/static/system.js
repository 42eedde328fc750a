// The system page: renewed while one looks at it; tasks are repeated or dropped, destinations tested.
import { byId, counted, post, request } from "./api.js";
import { tell } from "./dialogs.js";

const EVERY = 5000; // milliseconds
const now = byId("now");

/** Whether somebody is in the middle of something that new content would undo. */
const isBusy = () => document.hidden || now.querySelector("[data-sure], button:disabled") || getSelection().toString();

async function renew(isWanted = false) {
  const response = await request("/system/now" + location.search), text = await response.text();
  if (!isWanted && isBusy()) return;
  const focused = document.activeElement?.id, log = now.querySelector(".log");
  const isAtEnd = !log || log.scrollTop + log.clientHeight > log.scrollHeight - 20, top = log?.scrollTop;
  const told = new Map([...now.querySelectorAll("[data-echo]")].map((each) => [each.id, each.previousElementSibling.textContent]));
  now.innerHTML = text;
  for (const [id, answer] of told) if (byId(id)) byId(id).previousElementSibling.textContent = answer;
  if (now.querySelector(".log")) now.querySelector(".log").scrollTop = isAtEnd ? 1e9 : top;
  if (focused && focused !== document.activeElement?.id) byId(focused)?.focus();
}

async function change(button) {
  const { change: action, id } = button.dataset;
  if (action === "drop" && !button.dataset.sure) {
    button.dataset.sure = "yes";
    button.firstChild.textContent = "Drop: sure?"; // the second click drops
    return;
  }
  const found = await post("/api/tasks/" + action, id ? { ids: [Number(id)] } : { states: ["dead"] });
  tell(`${counted(found.tasks, "task")} ${action === "retry" ? "will be repeated" : "dropped"}.`);
  await renew(true);
}

async function echo(button) {
  const answer = button.previousElementSibling;
  answer.textContent = "…";
  const found = await post(`/api/destinations/${encodeURIComponent(button.dataset.echo)}/echo`, {});
  answer.textContent = found.answers ? `answers in ${Math.round(found.seconds * 1000)} ms` : `no answer: ${found.reason}`;
}

now.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  button.disabled = true;
  try {
    if (button.dataset.change) await change(button);
    if (button.dataset.echo) await echo(button);
  } catch (error) {
    tell(error.message);
  } finally {
    button.disabled = false;
  }
});

setInterval(() => {
  if (!isBusy()) renew().catch((error) => tell(error.message));
}, EVERY);
const log = now.querySelector(".log");
if (log) log.scrollTop = log.scrollHeight;
