/** Forms that change something: sent to the REST interface in place; without JavaScript they post normally. */

import { post, Problem } from "./api";
import { announce, refresh } from "./live";
import { t } from "./words";

export function toast(sentence: string, tone: "failed" | "done" = "failed"): void {
  const region = document.getElementById("toasts");
  if (!region) return;
  const message = document.createElement("p");
  message.className = `message tone-${tone}`;
  message.textContent = sentence;
  region.append(message);
  window.setTimeout(() => message.remove(), tone === "failed" ? 12_000 : 5_000);
}

async function send(form: HTMLFormElement, button: HTMLElement | null): Promise<void> {
  const fields = Object.fromEntries([...new FormData(form)].filter(([name]) => name !== "csrf_token"));
  button?.setAttribute("aria-busy", "true");
  const answer = form.parentElement?.querySelector<HTMLElement>("[data-answer]") ?? null;
  if (answer) answer.textContent = "…";
  try {
    const body = await post(form.dataset["api"] ?? "", Object.keys(fields).length ? fields : undefined);
    if (form.dataset["say"]) {
      announce(form.dataset["say"]);
    }
    if (answer) {
      const found = body as { ok?: unknown; message?: unknown } | null;
      if (typeof found?.message === "string") answer.textContent = found.message;
    }
    const said = (body as { message?: unknown } | null)?.message;
    if (form.dataset["toast"] !== undefined && typeof said === "string") toast(said, "done");
    form.closest("dialog")?.close();
  } catch (error) {
    const sentence = error instanceof Problem ? error.message : t("That did not work.");
    if (answer) answer.textContent = sentence;
    else toast(sentence);
  } finally {
    button?.removeAttribute("aria-busy");
    await refresh();
  }
}

export function wireActions(): void {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset["api"]) return;
    event.preventDefault();
    const button = event.submitter;
    if (button?.getAttribute("aria-busy") === "true") return;
    void send(form, button);
  });
  document.addEventListener("click", (event) => {
    const opener = (event.target as Element).closest<HTMLElement>("[data-dialog]");
    if (opener) document.querySelector<HTMLDialogElement>(`#${opener.dataset["dialog"] ?? ""}`)?.showModal();
    (event.target as Element).closest<HTMLElement>("[data-close]")?.closest("dialog")?.close();
  });
}

/** The menu of narrow windows closes by Escape, by a press elsewhere, and when the focus has gone. */
export function wireMenu(): void {
  const menu = document.querySelector<HTMLDetailsElement>("[data-menu]");
  if (!menu) return;
  const close = (event: Event): void => {
    if (!menu.contains(event.target as Node)) menu.open = false;
  };
  document.addEventListener("click", close);
  document.addEventListener("focusin", close);
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary")?.focus();
  });
}

/** A form that was refused: the reader is led to the sentence, unless the page leads to a field. */
export function showRefusal(): void {
  if (!document.querySelector("[autofocus]")) document.querySelector<HTMLElement>("#refusal")?.focus();
}

export function wireTheme(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-theme-toggle]");
  if (!button) return;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = (): boolean => (document.documentElement.dataset["theme"] ?? (system.matches ? "dark" : "light")) === "dark";
  const show = (): void => button.setAttribute("aria-pressed", String(dark()));
  button.addEventListener("click", () => {
    const next = dark() ? "light" : "dark";
    document.documentElement.dataset["theme"] = next;
    localStorage.setItem("cxr-sr-theme", next);
    show();
  });
  system.addEventListener("change", show);
  show();
}
