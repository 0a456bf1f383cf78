/**
 * Pages that follow the node. The server renders everything; on news the page is fetched again and only those
 * regions, or rows, whose markup changed are replaced, so that nothing jumps and focus stays.
 */

import { onEvent, onLeft, onLiveness, start } from "./stream";
import { localise } from "./times";
import { spoken, t } from "./words";

const GATHER_MS = 300;
const PAUSE_MS = 1000;
/** Time for the server to end a login after the form was sent. */
const LEFT_MS = 700;

/** The server's markup of each region and row, as it came. */
const markup = new WeakMap<Element, string>();

const changed: (() => void)[] = [];
let busy = false;
let again = false;

/** Call `after` whenever a region was replaced. */
export function onChange(after: () => void): void {
  changed.push(after);
}

function pieces(root: ParentNode): Element[] {
  return [...root.querySelectorAll("[data-live], [data-key]")];
}

/** Remember what the server sent; must run before anything on the page is touched. */
export function remember(root: ParentNode = document): void {
  for (const piece of pieces(root)) markup.set(piece, piece.outerHTML);
}

export function announce(sentence: string): void {
  const region = document.getElementById("announce");
  if (region) region.textContent = sentence;
}

/** Fields of a form, as it would post them. */
export function fieldsOf(form: HTMLFormElement, submitter: HTMLElement | null = null): URLSearchParams {
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form, submitter)) if (typeof value === "string") fields.append(name, value);
  return fields;
}

/** This page as the server would render it now; with `fields` as the answer to that search. */
async function fetchPage(fields: URLSearchParams | null, background: boolean): Promise<Document | null> {
  const request: RequestInit = { credentials: "same-origin", headers: background ? { "X-Background": "1" } : {} };
  if (fields) {
    request.method = "POST";
    request.body = fields;
  }
  const response = await fetch(fields ? location.pathname : location.href, request);
  if (response.redirected && new URL(response.url).pathname === "/login") {
    location.assign(response.url); // the login has ended: what the page shows must go
    return null;
  }
  if (!response.ok) return null;
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

function put(old: Element, fresh: Element): void {
  const text = fresh.outerHTML;
  const node = document.importNode(fresh, true);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const handle = focused?.id ? `#${CSS.escape(focused.id)}` : focused?.getAttribute("href") ? `[href="${focused.getAttribute("href")}"]` : null;
  remember(node);
  markup.set(node, text);
  localise(node);
  for (const open of old.querySelectorAll<HTMLDetailsElement>("details[id][open]")) {
    const again = node.querySelector<HTMLDetailsElement>(`#${CSS.escape(open.id)}`);
    if (again) again.open = true;
  }
  for (const box of old.querySelectorAll<HTMLInputElement>('input[type="checkbox"][id]:checked')) {
    const again = node.querySelector<HTMLInputElement>(`#${CSS.escape(box.id)}`);
    if (again) again.checked = true;
  }
  old.replaceWith(node);
  if (handle) node.querySelector<HTMLElement>(handle)?.focus({ preventScroll: true });
}

/** Bring keyed children (rows) of `old` to those of `fresh`, touching only what differs. */
function mergeRows(old: Element, fresh: Element): void {
  const present = new Map<string, Element>();
  for (const row of old.querySelectorAll(":scope > [data-key]")) present.set(row.getAttribute("data-key") ?? "", row);
  let place: Element | null = old.firstElementChild;
  for (const row of fresh.querySelectorAll(":scope > [data-key]")) {
    const key = row.getAttribute("data-key") ?? "";
    const known = present.get(key);
    present.delete(key);
    if (!known) {
      const node = document.importNode(row, true);
      markup.set(node, row.outerHTML);
      localise(node);
      old.insertBefore(node, place);
      continue;
    }
    if (known === place) place = place.nextElementSibling;
    else old.insertBefore(known, place);
    if (markup.get(known) !== row.outerHTML) put(known, row);
  }
  for (const gone of present.values()) gone.remove();
}

/** Replace the regions and rows that differ from those of `fresh`. */
function takeOver(fresh: Document): void {
  let touched = false;
  for (const region of fresh.querySelectorAll("[data-live]")) {
    const old = document.querySelector(`[data-live="${region.getAttribute("data-live") ?? ""}"]`);
    if (!old || markup.get(old) === region.outerHTML) continue;
    touched = true;
    const [rows, freshRows] = [old.querySelector("[data-rows]"), region.querySelector("[data-rows]")];
    if (rows && freshRows) {
      mergeRows(rows, freshRows);
      markup.set(old, region.outerHTML);
    } else put(old, region);
  }
  if (touched) for (const after of changed) after();
}

/** Show the answer to a search in place: what is searched for stays out of the address and of the way back. */
export async function showSearch(fields: URLSearchParams): Promise<boolean> {
  try {
    const fresh = await fetchPage(fields, false);
    if (fresh) takeOver(fresh);
    return fresh !== null;
  } catch {
    return false;
  }
}

/** Fetch this page again and take over what changed. */
export async function refresh(): Promise<void> {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const search = document.querySelector<HTMLFormElement>("form[data-refresh]");
    const fresh = await fetchPage(search ? fieldsOf(search) : null, true);
    if (fresh) takeOver(fresh);
  } catch {
    // the stream's own mark says that the server is away
  } finally {
    window.setTimeout(() => {
      busy = false;
      if (again) {
        again = false;
        void refresh();
      }
    }, PAUSE_MS);
  }
}

function gather(): (id: number, state: string) => void {
  const news = new Map<number, string>();
  let timer = 0;
  return (id, state) => {
    if (state) news.set(id, state);
    window.clearTimeout(timer);
    timer = window.setTimeout(() => {
      const lines = [...news].map(([job, word]) => t("Job {job}: {state}.", { job, state: spoken(word) }));
      news.clear();
      if (lines.length) announce(lines.length > 4 ? t("{count} jobs changed.", { count: lines.length }) : lines.join(" "));
    }, 800);
  };
}

/** Follow the events; a page about one job cares for that job alone. */
export function follow(): void {
  const body = document.body;
  const only = body.dataset["job"] ? Number(body.dataset["job"]) : null;
  const sign = document.querySelector<HTMLElement>("[data-liveness]");
  const tell = gather();
  let timer = 0;
  let seen = "";
  onLiveness((liveness) => {
    if (sign) {
      sign.dataset["state"] = liveness;
      const word = sign.querySelector("span");
      if (word) word.textContent = liveness === "live" ? t("Live") : t("Not live");
    }
    // Back after a pause: catch up. Refused: see whether the login has ended.
    if (liveness !== seen && (seen || liveness === "lost")) void refresh();
    seen = liveness;
  });
  onEvent((event) => {
    if (only !== null && event.id !== null && event.id !== only) return;
    if (!body.querySelector("[data-live]")) return;
    if (event.id !== null) tell(event.id, event.state);
    window.clearTimeout(timer);
    timer = window.setTimeout(() => void refresh(), GATHER_MS);
  });
  onLeft(() => window.setTimeout(() => void refresh(), LEFT_MS));
  const every = Number(document.querySelector<HTMLElement>("[data-every]")?.dataset["every"] ?? 0);
  if (every > 0) {
    window.setInterval(() => {
      if (document.visibilityState === "visible") void refresh();
    }, every * 1000);
  }
  start();
}
