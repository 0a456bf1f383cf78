/** A file in the list of an upload: what it is, how far it is, what can be done with it. */

import { t } from "../words";
import type { Found } from "./gather";
import type { Taken } from "./transfer";

export type Step = "waiting" | "sending" | "failed" | "taken";

export interface Doing {
  remove(): void;
  stop(): void;
  again(): void;
  describe(): void;
}

export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const mega = bytes / 1e6;
  return mega < 1 ? `${Math.round(bytes / 1000)} kB` : `${mega.toFixed(mega < 10 ? 1 : 0)} MB`;
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, name: string, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

export class Row {
  readonly item = element("li", "");
  /** The jobs that were made of it, with the words that follow their state. */
  readonly badges = new Map<number, HTMLElement>();
  private readonly said = element("span", "answer");
  private readonly buttons = element("span", "buttons");
  private bar: HTMLProgressElement | null = null;

  constructor(
    readonly found: Found,
    private readonly picture: boolean,
    private readonly doing: Doing,
  ) {
    const name = element("span", "name", found.name);
    name.title = found.name;
    this.item.append(name, element("span", "soft small nowrap", size(found.file.size)), this.buttons, this.said);
    this.show("waiting");
  }

  /** The buttons that a step allows. */
  show(step: Step): void {
    this.item.className = step === "failed" ? "tone-failed" : "";
    this.item.dataset["step"] = step;
    this.said.classList.toggle("reason", step === "failed");
    if (step !== "sending") {
      this.bar?.remove();
      this.bar = null;
    }
    const buttons: HTMLButtonElement[] = [];
    if (step === "failed") buttons.push(this.button(t("Try again"), t("Try again: {name}", { name: this.found.name }), () => this.doing.again()));
    if (this.picture && (step === "waiting" || step === "failed")) {
      buttons.push(this.button(t("Details"), t("Details of {name}", { name: this.found.name }), () => this.doing.describe()));
    }
    if (step === "sending") buttons.push(this.button(t("Stop"), t("Stop sending {name}", { name: this.found.name }), () => this.doing.stop()));
    if (step === "waiting" || step === "failed") {
      buttons.push(this.button(t("Remove"), t("Remove {name}", { name: this.found.name }), () => this.doing.remove()));
    }
    const focused = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(...buttons);
    if (focused) buttons[0]?.focus();
  }

  say(words: string): void {
    this.said.textContent = words;
  }

  /** Part of it that has left, 0 to 1. */
  progress(part: number): void {
    if (!this.bar) {
      this.bar = element("progress", "");
      this.bar.max = 1;
      this.bar.setAttribute("aria-label", t("Sending {name}", { name: this.found.name }));
      this.item.append(this.bar);
    }
    this.bar.value = part;
  }

  /** Links to what was made of it, and what of an archive was refused. */
  take(taken: Taken): void {
    this.show("taken");
    this.said.replaceChildren();
    for (const job of taken.jobs) {
      const link = element("a", "", t("Job {number}", { number: job.id }));
      link.href = `/jobs/${job.id}`;
      const badge = element("span", "soft", job.resend ? t("was here before") : t(job.state));
      this.said.append(link, " ", badge, " ");
      if (!job.resend) this.badges.set(job.id, badge);
    }
    for (const refusal of taken.refused) {
      this.item.className = "tone-failed";
      this.said.append(element("span", "reason", `${refusal.file}: ${refusal.detail} `));
    }
  }

  private button(words: string, label: string, act: () => void): HTMLButtonElement {
    const made = element("button", "quiet small-button", words);
    made.type = "button";
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }
}
