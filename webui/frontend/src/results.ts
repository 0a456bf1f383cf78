/**
 * What is done with a result on its page: sent, shared, judged. Forms with `data-post` go to the REST interface
 * in place; field names with a point nest, `data-list` makes a list, `data-number` a number, empty ones are left
 * out.
 */

import { post, Problem } from "./api";
import { announce, refresh } from "./live";
import { t } from "./words";

type Body = Record<string, unknown>;

interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

function bodyOf(form: HTMLFormElement): Body {
  const body: Body = {};
  for (const [path, value] of new FormData(form)) {
    if (typeof value !== "string" || path === "csrf_token" || value.trim() === "") continue;
    const field = form.querySelector<HTMLElement>(`[name="${CSS.escape(path)}"]`);
    const names = path.split(".");
    const last = names.pop() as string;
    let place = body;
    for (const name of names) place = (place[name] ??= {}) as Body;
    const plain = field?.dataset["number"] === undefined ? value : Number(value);
    if (field?.dataset["list"] === undefined) place[last] = plain;
    else place[last] = [...((place[last] as unknown[] | undefined) ?? []), plain];
  }
  return body;
}

async function send(form: HTMLFormElement, button: HTMLElement | null): Promise<void> {
  const told = form.querySelector<HTMLElement>("[data-answer]");
  if (told) told.textContent = "";
  button?.setAttribute("aria-busy", "true");
  try {
    const body = bodyOf(form);
    const answer = await post(form.dataset["post"] ?? "", Object.keys(body).length ? body : undefined);
    if (form.dataset["shares"] !== undefined) showLink(form, answer as { url: string });
    const said = form.dataset["say"] ?? "";
    if (told) told.textContent = said;
    else if (said) announce(said);
  } catch (error) {
    const sentence = error instanceof Problem ? error.message : t("That did not work.");
    if (told) told.textContent = sentence;
    else announce(sentence);
  } finally {
    button?.removeAttribute("aria-busy");
    await refresh();
  }
}

function showLink(form: HTMLFormElement, answer: { url: string }): void {
  const box = form.parentElement?.querySelector<HTMLElement>("[data-shared]");
  const field = box?.querySelector("input");
  if (!box || !field) return;
  box.hidden = false;
  field.value = answer.url;
  field.focus();
  field.select();
}

async function copy(button: HTMLElement): Promise<void> {
  const field = document.querySelector<HTMLInputElement>(`#${button.dataset["copy"] ?? ""}`);
  if (!field) return;
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    document.execCommand("copy"); // without HTTPS there is no other way
  }
  announce(t("Copied."));
  button.textContent = t("Copied");
}

/** One sheet is open at a time; it closes by Escape and by a press elsewhere. */
function wireSheets(): void {
  const open = (): HTMLDetailsElement[] => [...document.querySelectorAll<HTMLDetailsElement>("details.sheet[open]")];
  document.addEventListener("click", (event) => {
    for (const sheet of open()) if (!sheet.contains(event.target as Node)) sheet.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const sheet of open()) {
      const within = sheet.contains(document.activeElement);
      sheet.open = false;
      if (within) sheet.querySelector("summary")?.focus();
    }
  });
}

/** The rectangle that the viewer tells of: into the form, and into the address of the detail for a talk. */
function wireRectangle(): void {
  const form = document.querySelector<HTMLFormElement>("form[data-rectangle]");
  const fill = (given: Rectangle | null): void => {
    for (const name of ["x", "y", "width", "height"] as const) {
      const field = form?.querySelector<HTMLInputElement>(`#rectangle-${name}`);
      if (field) field.value = given ? String(given[name]) : "";
    }
    const detail = document.querySelector<HTMLAnchorElement>("a[data-detail]");
    if (!detail) return;
    const whole = (detail.dataset["whole"] ??= detail.href);
    const enough = given && given.width >= 16 && given.height >= 16;
    detail.href = enough
      ? `${new URL(whole).pathname}?${new URLSearchParams(Object.entries(given).map(([k, v]) => [k, String(v)])).toString()}`
      : whole;
  };
  document.addEventListener("viewer-rectangle", (event) => {
    const given = (event as CustomEvent<Rectangle | null>).detail;
    const columns = Number(form?.dataset["columns"] ?? 0) || Infinity;
    const rows = Number(form?.dataset["rows"] ?? 0) || Infinity;
    const held = given && within(given, columns, rows);
    fill(held);
    const where = document.querySelector<HTMLDetailsElement>("[data-where]");
    if (where && held) where.open = true;
  });
  form?.querySelector("[data-no-rectangle]")?.addEventListener("click", () => fill(null));
}

/** Whole pixels inside of the result. */
function within(given: Rectangle, columns: number, rows: number): Rectangle {
  const x = Math.min(Math.max(0, Math.round(given.x)), columns - 1);
  const y = Math.min(Math.max(0, Math.round(given.y)), rows - 1);
  const width = Math.max(1, Math.min(Math.round(given.width), columns - x));
  const height = Math.max(1, Math.min(Math.round(given.height), rows - y));
  return { x, y, width, height };
}

export function wireResults(): void {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset["post"]) return;
    event.preventDefault();
    if (event.submitter?.getAttribute("aria-busy") !== "true") void send(form, event.submitter);
  });
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
    if (button) void copy(button);
  });
  wireSheets();
  wireRectangle();
}
