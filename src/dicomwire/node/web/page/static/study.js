// A study: send or delete it, and go back to the list as it was.
import { byId } from "./api.js";
import { remove, send } from "./dialogs.js";

const study = byId("study"), subject = { studies: [study.dataset.study] };

byId("back").href = sessionStorage.getItem("list") ?? "/";
study.addEventListener("click", (event) => {
  const action = event.target.dataset.action;
  if (action === "send") send(subject, 1);
  if (action === "delete") remove(subject, 1, () => location.assign(byId("back").href));
});
