/** Upload: files gathered by drop or choice, each sent on its own, with its progress, its job or its refusal. */

import { csrfToken, Problem, problemOf } from "./api";
import { onEvent } from "./stream";

const AT_ONCE = 3;
const RASTER = /\.(png|jpe?g|tiff?)$/i;

interface Entry {
  readonly file: File;
  readonly row: HTMLLIElement;
  sent: boolean;
  refused: boolean;
}

interface Made {
  readonly id: number;
  readonly state: string;
  readonly resend: boolean;
}

interface Taken {
  readonly jobs: readonly Made[];
  /** Of an archive's files some may be refused. */
  readonly refused: readonly { readonly file: string; readonly detail: string }[];
}

function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const mega = bytes / 1e6;
  return mega < 1 ? `${Math.round(bytes / 1000)} kB` : `${mega.toFixed(mega < 10 ? 1 : 0)} MB`;
}

function isRaster(file: File): boolean {
  return /^image\/(png|jpeg|tiff)$/.test(file.type) || RASTER.test(file.name);
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, name: string, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

/** The files of a drop, those inside of folders too. */
async function dropped(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: File[] = [];
  for (;;) {
    // Browsers hand out a folder a hundred entries at a time.
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map(filesIn))).flat());
  }
}

export function wireUpload(form: HTMLFormElement): void {
  const input = form.querySelector<HTMLInputElement>('input[type="file"]');
  const list = form.querySelector<HTMLUListElement>("[data-files]");
  const panel = form.querySelector<HTMLElement>("[data-files-panel]");
  const person = form.querySelector<HTMLElement>("[data-demographics]");
  const button = form.querySelector<HTMLButtonElement>("[data-send]");
  const summary = form.querySelector<HTMLElement>("[data-summary]");
  const zone = form.querySelector<HTMLElement>("[data-drop]");
  if (!input || !list || !panel || !button || !summary || !zone) return;

  const entries: Entry[] = [];
  const jobs = new Map<number, HTMLElement>();
  input.required = false;

  const show = (): void => {
    panel.hidden = entries.length === 0;
    const open = entries.filter((entry) => !entry.sent);
    if (person) person.hidden = !open.some((entry) => isRaster(entry.file));
    button.disabled = open.length === 0;
    const again = open.length > 0 && open.every((entry) => entry.refused);
    button.textContent = again ? "Try again" : open.length > 1 ? `Enhance ${open.length} images` : "Enhance";
  };

  const add = (files: Iterable<File>): void => {
    for (const file of files) {
      const row = element("li", "");
      const remove = element("button", "quiet small-button", "Remove");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      const answer = element("span", "answer");
      answer.setAttribute("role", "status");
      row.append(element("span", "name", file.name), element("span", "soft small nowrap", size(file.size)), remove, answer);
      const entry: Entry = { file, row, sent: false, refused: false };
      remove.addEventListener("click", () => {
        entries.splice(entries.indexOf(entry), 1);
        row.remove();
        show();
        input.focus();
      });
      entries.push(entry);
      list.append(row);
    }
    show();
  };

  const answerOf = (entry: Entry): HTMLElement => entry.row.querySelector<HTMLElement>(".answer") ?? entry.row;

  const accept = (entry: Entry, taken: Taken): void => {
    entry.sent = true;
    entry.row.querySelector("button")?.remove();
    const answer = answerOf(entry);
    answer.className = "answer";
    answer.replaceChildren();
    for (const job of taken.jobs) {
      const link = element("a", "", `Job ${job.id}`);
      link.href = `/jobs/${job.id}`;
      const badge = element("span", "soft", job.resend ? "was here before" : job.state);
      answer.append(link, " ", badge, " ");
      if (!job.resend) jobs.set(job.id, badge);
    }
    for (const refusal of taken.refused) {
      answer.append(element("span", "reason tone-failed", `${refusal.file}: ${refusal.detail} `));
    }
  };

  const refuse = (entry: Entry, problem: Problem): void => {
    entry.refused = true;
    entry.row.className = "tone-failed";
    const answer = answerOf(entry);
    answer.className = "answer reason";
    answer.textContent = problem.message;
  };

  const largest = Number(form.dataset["maxBytes"]);
  const send = (entry: Entry): Promise<void> =>
    new Promise((resolve) => {
      if (entry.file.size > largest) {
        const words = `The file is larger than ${form.dataset["maxWords"] ?? ""}, the most that is taken at once.`;
        refuse(entry, new Problem(413, "too-large", words));
        resolve();
        return;
      }
      const body = new FormData(form);
      body.delete("file");
      body.delete("csrf_token");
      if (!isRaster(entry.file)) for (const name of [...body.keys()]) if (/^[A-Z]/.test(name)) body.delete(name);
      for (const [name, value] of [...body]) {
        if (value === "") body.delete(name);
        else if (name === "PatientName" && typeof value === "string") body.set(name, value.replace(/\s*,\s*/, "^"));
      }
      body.append("file", entry.file);
      const progress = element("progress", "");
      progress.max = 1;
      progress.value = 0;
      progress.setAttribute("aria-label", `Sending ${entry.file.name}`);
      entry.row.className = "";
      answerOf(entry).textContent = "";
      entry.row.append(progress);
      const request = new XMLHttpRequest();
      request.open("POST", "/api/v1/jobs");
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("X-CSRF-Token", csrfToken());
      request.upload.onprogress = (event) => {
        if (event.lengthComputable) progress.value = event.loaded / event.total;
      };
      request.onloadend = () => {
        progress.remove();
        if (request.status >= 200 && request.status < 300) {
          accept(entry, JSON.parse(request.responseText) as Taken);
        } else refuse(entry, problemOf(request.status, request.responseText));
        resolve();
      };
      request.send(body);
    });

  const sendAll = async (): Promise<void> => {
    const waiting = entries.filter((entry) => !entry.sent);
    const total = waiting.length;
    button.disabled = true;
    summary.textContent = "Sending …";
    const lane = async (): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift()) await send(next);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    const refused = entries.filter((entry) => !entry.sent).length;
    const taken = total - refused;
    summary.textContent = refused
      ? `${taken} taken, ${refused} refused. The reason stands with each file.`
      : taken === 1
        ? "Taken. The image is in the queue."
        : `All ${taken} taken. They are in the queue.`;
    show();
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (entries.some((entry) => !entry.sent) && form.reportValidity()) void sendAll();
  });
  input.addEventListener("change", () => {
    add(input.files ?? []);
    input.value = "";
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
    if (event.dataTransfer) void dropped(event.dataTransfer).then(add);
  });
  // A file dropped beside the zone would replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  onEvent((event) => {
    const badge = event.id === null ? undefined : jobs.get(event.id);
    if (!badge || !event.state) return;
    badge.textContent = event.state;
    badge.className = `state tone-${event.state}`;
  });
  show();
}
