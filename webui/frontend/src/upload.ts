/** Upload: files gathered by drop or choice, each sent on its own, with its progress, its job or its refusal. */

import { post, Problem } from "./api";
import { onEvent } from "./stream";
import { chosen, dropped, MOST, type Found, type Gathered } from "./upload/gather";
import { isPicture, mayHoldPictures, People } from "./upload/people";
import { Row, type Step } from "./upload/row";
import { newKey, send, Stopped, type Taken } from "./upload/transfer";
import { t } from "./words";

const AT_ONCE = 4;

interface Entry {
  readonly found: Found;
  readonly row: Row;
  step: Step;
  /** Whether it is to be sent now. */
  wanted: boolean;
  /** Part that has left. */
  part: number;
  /** What was sent under which key: the same again is not done twice. */
  key: string;
  fields: string;
  stopper: AbortController | null;
}

type Parts = ReturnType<typeof partsOf>;

function partsOf(form: HTMLFormElement) {
  const find = <K extends HTMLElement = HTMLElement>(selector: string): K => {
    const found = form.querySelector<K>(selector);
    if (!found) throw new Error(selector);
    return found;
  };
  return {
    form,
    input: find<HTMLInputElement>('input[type="file"]'),
    list: find<HTMLUListElement>("[data-files]"),
    panel: find("[data-files-panel]"),
    people: find("[data-demographics]"),
    button: find<HTMLButtonElement>("[data-send]"),
    summary: find("[data-summary]"),
    zone: find("[data-drop]"),
    folder: find<HTMLButtonElement>("[data-folder]"),
    again: find<HTMLButtonElement>("[data-again]"),
    stop: find<HTMLButtonElement>("[data-stop]"),
    clear: find<HTMLButtonElement>("[data-clear]"),
    overall: find("[data-overall]"),
    bar: find<HTMLProgressElement>("[data-overall-bar]"),
  };
}

class Upload {
  private readonly parts: Parts;
  private readonly people: People;
  private entries: Entry[] = [];
  private readonly jobs = new Map<number, HTMLElement>();
  private readonly largest: number;
  private batch: number | null = null;
  private busy = false;
  private stopped = false;
  private drawn = false;

  constructor(form: HTMLFormElement) {
    this.parts = partsOf(form);
    this.largest = Number(form.dataset["maxBytes"]);
    this.people = new People(this.parts.people, (found) => this.mark(found));
    this.parts.input.required = false;
    this.wire();
    this.draw();
  }

  private wire(): void {
    const { form, input, zone, folder, again, stop, clear } = this.parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.busy && form.reportValidity()) void this.sendAll("waiting");
    });
    input.addEventListener("change", () => {
      this.add(chosen(input.files ?? []));
      input.value = "";
    });
    folder.addEventListener("click", () => {
      const picker = document.createElement("input");
      picker.type = "file";
      picker.webkitdirectory = true;
      picker.addEventListener("change", () => this.add(chosen(picker.files ?? [])));
      picker.click();
    });
    again.addEventListener("click", () => void this.sendAll("failed"));
    stop.addEventListener("click", () => this.stopAll());
    clear.addEventListener("click", () => {
      this.remove(this.entries.filter((entry) => entry.step !== "sending"));
      this.parts.summary.replaceChildren();
      input.focus();
    });
    for (const name of ["dragenter", "dragover"]) {
      zone.addEventListener(name, (event) => {
        event.preventDefault();
        zone.classList.add("over");
      });
    }
    for (const name of ["dragleave", "drop", "dragend"]) zone.addEventListener(name, () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer) void dropped(event.dataTransfer).then((gathered) => this.add(gathered));
    });
    // A file dropped beside the zone would replace the page.
    for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
    window.addEventListener("beforeunload", (event) => {
      if (this.busy) event.preventDefault();
    });
    onEvent((event) => {
      const badge = event.id === null ? undefined : this.jobs.get(event.id);
      if (!badge || !event.state) return;
      badge.textContent = t(event.state);
      badge.className = `state tone-${event.state}`;
    });
  }

  private add(gathered: Gathered): void {
    const made = gathered.found.map((found) => this.entry(found));
    this.entries.push(...made);
    this.parts.list.append(...made.map((entry) => entry.row.item));
    const notes = [
      gathered.clutter ? t("{count} left out: hidden files and DICOMDIR.", { count: gathered.clutter }) : "",
      gathered.more ? t("Only the first {count} were taken over.", { count: MOST }) : "",
    ];
    this.parts.summary.textContent = notes.filter(Boolean).join(" ");
    this.draw();
  }

  private entry(found: Found): Entry {
    const row = new Row(found, isPicture(found), {
      remove: () => this.remove([entry]),
      stop: () => entry.stopper?.abort(),
      again: () => void this.sendAll("failed", entry),
      describe: () => this.people.choose(found),
    });
    const entry: Entry = { found, row, step: "waiting", wanted: false, part: 0, key: "", fields: "", stopper: null };
    return entry;
  }

  private remove(gone: Entry[]): void {
    const all = new Set(gone);
    const place = this.entries.findIndex((entry) => all.has(entry));
    this.entries = this.entries.filter((entry) => !all.has(entry));
    for (const entry of gone) {
      entry.row.item.remove();
      this.people.forget(entry.found);
    }
    const next = this.entries[Math.min(place, this.entries.length - 1)]?.row.item.querySelector("button");
    (next ?? this.parts.input).focus();
    this.draw();
  }

  private mark(found: Found): void {
    const entry = this.entries.find((one) => one.found === found);
    if (entry) entry.row.say(this.people.has(found) ? t("has details of its own") : "");
  }

  private move(entry: Entry, step: Step): void {
    entry.step = step;
    entry.row.show(step);
    this.draw();
  }

  /** Bring the page up to date, once a frame however many files change. */
  private draw(): void {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      this.redraw();
    });
  }

  private redraw(): void {
    const { panel, button, again, stop, clear, overall, bar } = this.parts;
    const of = (step: Step): Entry[] => this.entries.filter((entry) => entry.step === step);
    const waiting = of("waiting");
    const failed = of("failed");
    panel.hidden = this.entries.length === 0;
    if (!this.busy) this.people.list([...waiting, ...failed].map((entry) => entry.found).filter(mayHoldPictures));
    button.disabled = waiting.length === 0 || this.busy;
    button.setAttribute("aria-busy", String(this.busy));
    button.textContent = waiting.length > 1 ? t("Enhance {count} images", { count: waiting.length }) : t("Enhance");
    again.hidden = failed.length === 0 || this.busy;
    again.textContent = failed.length > 1 ? t("Try {count} again", { count: failed.length }) : t("Try it again");
    stop.hidden = !this.busy;
    clear.hidden = this.busy;
    overall.hidden = !this.busy;
    const bytes = this.entries.reduce((sum, entry) => sum + entry.found.file.size, 0);
    const left = this.entries.reduce((sum, entry) => sum + entry.found.file.size * entry.part, 0);
    bar.value = bytes ? left / bytes : 0;
    if (this.busy) {
      const gone = of("taken").length + failed.length;
      const words = failed.length
        ? t("{done} of {count} sent, {failed} of them refused", { done: gone, count: this.entries.length, failed: failed.length })
        : t("{done} of {count} sent", { done: gone, count: this.entries.length });
      if (this.parts.summary.textContent !== words) this.parts.summary.textContent = words;
    }
  }

  /** Send what is in that step, or one of it, several at once. */
  private async sendAll(step: "waiting" | "failed", only?: Entry): Promise<void> {
    const asked = only ? [only] : this.entries.filter((entry) => entry.step === step);
    for (const entry of asked) {
      entry.wanted = true;
      entry.part = 0;
      entry.row.say("");
      this.move(entry, "waiting");
    }
    if (this.busy || !asked.length) return; // the lanes that run find it
    this.busy = true;
    this.stopped = false;
    this.draw();
    if (asked.length > 1 && this.batch === null) await this.begin();
    const lane = async (): Promise<void> => {
      for (let next = this.next(); next && !this.stopped; next = this.next()) await this.sendOne(next);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    this.busy = false;
    for (const entry of this.entries) entry.wanted = false;
    this.redraw();
    this.sum(asked);
  }

  private next(): Entry | undefined {
    return this.entries.find((entry) => entry.wanted && entry.step === "waiting");
  }

  /** A batch for all that follows; without one the jobs stand each alone. */
  private async begin(): Promise<void> {
    try {
      const made = (await post("/api/v1/uploads")) as { batch?: number } | null;
      this.batch = made?.batch ?? null;
    } catch {
      this.batch = null;
    }
  }

  private async sendOne(entry: Entry): Promise<void> {
    if (entry.found.file.size > this.largest) {
      entry.row.say(t("The file is larger than {size}, the most that is taken at once.", { size: this.parts.form.dataset["maxWords"] ?? "" }));
      this.move(entry, "failed");
      return;
    }
    const body = this.body(entry);
    entry.stopper = new AbortController();
    this.move(entry, "sending");
    entry.row.progress(0);
    let shown = 0;
    try {
      const taken = await send(
        body,
        entry.key,
        {
          progress: (part) => {
            entry.part = part;
            if (part - shown > 0.02 || part === 1) {
              shown = part;
              entry.row.progress(part);
              this.draw();
            }
          },
          waits: (seconds) => entry.row.say(t("The server did not answer; next attempt in {seconds} s.", { seconds: Math.round(seconds) })),
        },
        entry.stopper.signal,
      );
      this.accept(entry, taken);
    } catch (error) {
      this.refuse(entry, error);
    } finally {
      entry.stopper = null;
    }
  }

  /** The form's wishes and the file; its key stays while these are the same. */
  private body(entry: Entry): FormData {
    const { found } = entry;
    const wishes = new FormData(this.parts.form);
    for (const name of [...wishes.keys()]) if (name === "file" || name === "csrf_token" || /^[A-Z]/.test(name)) wishes.delete(name);
    if (isPicture(found)) wishes.delete("destination"); // it goes to an archive when its patient was picked there
    const fields = [...wishes].filter(([, value]) => value !== "") as [string, string][];
    if (mayHoldPictures(found)) fields.push(...Object.entries(this.people.details(found)));
    if (this.batch !== null) fields.push(["batch", String(this.batch)]);
    const signature = JSON.stringify(fields);
    if (!entry.key || entry.fields !== signature) {
      entry.key = newKey();
      entry.fields = signature;
    }
    const body = new FormData();
    for (const [name, value] of fields) body.append(name, value);
    body.append("file", found.file, found.file.name);
    return body;
  }

  private accept(entry: Entry, taken: Taken): void {
    entry.part = 1;
    this.move(entry, "taken");
    entry.row.take(taken);
    for (const [id, badge] of entry.row.badges) this.jobs.set(id, badge);
    if (this.batch === null && taken.batch) this.batch = taken.batch;
  }

  private refuse(entry: Entry, error: unknown): void {
    entry.part = 0;
    if (error instanceof Stopped) {
      entry.wanted = false;
      entry.row.say(t("Stopped."));
      this.move(entry, "waiting");
      return;
    }
    entry.row.say(error instanceof Error ? error.message : t("That did not work."));
    this.move(entry, "failed");
    if (error instanceof Problem && error.status === 401) this.stopped = true; // no other would be taken
  }

  private stopAll(): void {
    this.stopped = true;
    for (const entry of this.entries) entry.stopper?.abort();
  }

  /** What became of it all, with the ways on; what was refused comes first in the list. */
  private sum(sent: Entry[]): void {
    const first = this.entries.filter((entry) => entry.step === "failed");
    if (first.length && first.length < this.entries.length) {
      this.entries = [...first, ...this.entries.filter((entry) => entry.step !== "failed")];
      this.parts.list.prepend(...first.map((entry) => entry.row.item));
    }
    const refused = sent.filter((entry) => entry.step === "failed").length;
    const taken = sent.filter((entry) => entry.step === "taken").length;
    const left = sent.filter((entry) => entry.step === "waiting").length;
    const words = left
      ? t("Stopped: {taken} taken, {refused} refused, {left} not sent.", { taken, refused, left })
      : refused
        ? t("{taken} taken, {refused} refused. The reason stands with each file.", { taken, refused })
        : taken === 1
          ? t("Taken. The image is in the queue.")
          : t("All {count} taken. They are in the queue.", { count: taken });
    const ways: (Node | string)[] = [words];
    if (taken && this.batch !== null) ways.push(" ", link(`/uploads/${this.batch}`, t("This upload")));
    if (taken) ways.push(" ", link("/queue", t("Queue")));
    this.parts.summary.replaceChildren(...ways);
  }
}

function link(href: string, words: string): HTMLAnchorElement {
  const made = document.createElement("a");
  made.href = href;
  made.textContent = words;
  return made;
}

export function wireUpload(form: HTMLFormElement): void {
  new Upload(form);
}
