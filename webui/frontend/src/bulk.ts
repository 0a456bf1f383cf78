/** Changes of many jobs from the queue: the chosen rows, or all that match, in steps until none is left. */

import { csrfToken, problemOf, Problem } from "./api";
import { toast } from "./actions";
import { announce, fieldsOf, onChange, refresh } from "./live";
import { t } from "./words";

interface Changed {
  readonly done: number;
  readonly refused: readonly { readonly id: number; readonly reason: string }[];
  readonly next: string | null;
}

/** The page's names of filters to the interface's. */
const NAMES: Record<string, string> = {
  q: "text",
  state: "state",
  rule: "rule",
  destination: "destination",
  model: "model",
  priority: "priority",
  origin: "origin",
  since: "received_from",
  until: "received_to",
};

function boxes(): HTMLInputElement[] {
  return [...document.querySelectorAll<HTMLInputElement>('input[form="chosen"][name="job"]')];
}

function filter(fields: URLSearchParams): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [ours, theirs] of Object.entries(NAMES)) {
    const value = fields.get(ours);
    if (!value) continue;
    found[theirs] = ours === "state" ? [value] : ours === "q" ? value.replaceAll(", ", "^") : value;
  }
  return found;
}

async function ask(path: string, body: object): Promise<Changed> {
  const response = await fetch(path, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRF-Token": csrfToken() },
    body: JSON.stringify(body),
    credentials: "same-origin",
  });
  const text = await response.text();
  if (!response.ok) throw problemOf(response.status, text);
  return JSON.parse(text) as Changed;
}

async function change(form: HTMLFormElement, button: HTMLElement, path: string): Promise<void> {
  const fields = fieldsOf(form, button);
  const everything = fields.has("all");
  const action = fields.get("action");
  const ids = fields.getAll("job").map(Number);
  if (!everything && ids.length === 0) {
    toast(t("No job was chosen."));
    return;
  }
  if (everything || (action === "cancel" && ids.length > 1)) {
    const what = everything ? (document.querySelector(".matched")?.textContent?.trim() ?? "") : t("{count} jobs", { count: ids.length });
    if (!window.confirm(`${button.textContent?.trim() ?? ""}: ${what}?`)) return;
  }
  const body: Record<string, unknown> = everything ? { action, filter: filter(fields) } : { action, ids };
  if (action === "priority") body["priority"] = fields.get("new_priority");
  button.setAttribute("aria-busy", "true");
  let done = 0;
  const left: string[] = [];
  try {
    for (;;) {
      const answer = await ask(path, body);
      done += answer.done;
      left.push(...answer.refused.map((one) => `${one.id}: ${one.reason}`));
      if (answer.next === null) break;
      body["cursor"] = answer.next;
      announce(t("{count} jobs changed so far.", { count: done }));
    }
    if (done) toast(t("Jobs changed: {count}.", { count: done }), "done");
    if (left.length) toast(`${t("Left as they are: {count}.", { count: left.length })} ${left.slice(0, 3).join(" ")}`);
    if (!done && !left.length) toast(t("There is no job for which that can be done."));
    for (const box of form.querySelectorAll<HTMLInputElement>('input[name="all"]')) box.checked = false;
    for (const box of boxes()) box.checked = false;
  } catch (error) {
    toast(error instanceof Problem ? error.message : t("That did not work."));
  } finally {
    button.removeAttribute("aria-busy");
    tally(form);
    await refresh();
  }
}

/** Say how many are chosen; mark the box above them all. */
function tally(form: HTMLFormElement): void {
  const all = boxes();
  const chosen = all.filter((box) => box.checked).length;
  const everything = form.querySelector<HTMLInputElement>('input[name="all"]')?.checked ?? false;
  const number = form.querySelector<HTMLElement>("[data-number]");
  if (number) number.textContent = everything || !chosen ? "" : t("{count} chosen", { count: chosen });
  form.dataset["ready"] = String(everything || chosen > 0);
  const above = document.querySelector<HTMLInputElement>("[data-all]");
  if (above) {
    above.checked = chosen > 0 && chosen === all.length;
    above.indeterminate = chosen > 0 && chosen < all.length;
  }
}

export function wireBulk(form: HTMLFormElement): void {
  let last: HTMLInputElement | null = null;
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (event.target !== form || button?.getAttribute("name") !== "action") return;
    event.preventDefault();
    if (button.getAttribute("aria-busy") !== "true") void change(form, button, form.dataset["bulk"] ?? "");
  });
  document.addEventListener("click", (event) => {
    const box = event.target;
    if (!(box instanceof HTMLInputElement)) return;
    if (box.dataset["all"] !== undefined) for (const each of boxes()) each.checked = box.checked;
    else if (box.name === "job" && event.shiftKey && last) {
      const all = boxes();
      const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b) as [number, number];
      if (from >= 0) for (const each of all.slice(from, to + 1)) each.checked = box.checked;
    }
    if (box.name === "job") last = box;
    tally(form);
  });
  onChange(() => tally(form));
  tally(form);
}
