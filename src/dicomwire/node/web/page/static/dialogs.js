// What is done with chosen studies: download, send, delete. `subject` is what the API takes:
// { studies: [UID…] } or { search: "the query of the list" }.
import { byId, counted, post } from "./api.js";

const MOST_WITHOUT_WORD = 1;

let telling;
export function tell(text) {
  const told = byId("told");
  told.textContent = text;
  told.hidden = false;
  clearTimeout(telling);
  telling = setTimeout(() => (told.hidden = true), 6000);
}

export function download(subject) {
  const query = subject.search ?? new URLSearchParams(subject.studies.map((uid) => ["study", uid])).toString();
  const link = document.createElement("a");
  link.href = "/api/zip?" + query;
  link.download = "";
  link.click();
}

/** Ask, then call `act` with the form's data; keep the dialog open with the reason if that fails. */
function ask(id, what, act) {
  const dialog = byId(id), form = dialog.querySelector("form"), error = dialog.querySelector(".error");
  dialog.querySelector(".what").textContent = what;
  if (error) error.textContent = "";
  form.reset();
  form.onsubmit = async (event) => {
    const button = event.submitter;
    if (!button?.value) return;
    event.preventDefault();
    button.disabled = true;
    try {
      await act(new FormData(form));
      dialog.close();
    } catch (problem) {
      error.textContent = problem.message;
    } finally {
      button.disabled = false;
    }
  };
  dialog.showModal();
}

export function send(subject, number) {
  ask("send", counted(number, "study", "studies"), async (form) => {
    const found = await post("/api/send", { ...subject, destination: form.get("destination") });
    tell(`${counted(found.objects, "object")} will be sent to ${form.get("destination")}.`);
  });
}

export function remove(subject, number, then) {
  const typed = byId("delete").querySelector(".typed");
  typed.hidden = number <= MOST_WITHOUT_WORD;
  typed.querySelector("input").required = !typed.hidden;
  ask("delete", counted(number, "study", "studies"), async () => {
    const found = await post("/api/delete", subject);
    then(`${counted(found.studies, "study", "studies")} deleted, with ${counted(found.objects, "object")}.`);
  });
}
