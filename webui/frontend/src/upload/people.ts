/** Whose images the pictures are: one form for all of them or for each, with the picture beside it. */

import { t } from "../words";
import type { Found } from "./gather";

type Details = Record<string, string>;

const ALL = "all";
const SHOWN_BY_BROWSERS = /\.(png|jpe?g)$/i;
const PICTURE = /\.(png|jpe?g|tiff?)$/i;
const ARCHIVE = /\.zip$/i;

/** Whether a file is a picture, or may hold some: DICOM says itself whose it is. */
export function isPicture(found: Found): boolean {
  return /^image\/(png|jpeg|tiff)$/.test(found.file.type) || PICTURE.test(found.name);
}

export function mayHoldPictures(found: Found): boolean {
  return isPicture(found) || ARCHIVE.test(found.name);
}

export class People {
  private readonly inputs: (HTMLInputElement | HTMLSelectElement)[];
  private readonly target: HTMLSelectElement;
  private readonly common: Details = {};
  private readonly own = new Map<Found, Details>();
  private listed: Found[] = [];
  private shown: string | null = null;

  /** `changed`: told of the one whose own details came or went. */
  constructor(
    private readonly section: HTMLElement,
    private readonly changed: (found: Found) => void,
  ) {
    this.inputs = [...section.querySelectorAll<HTMLInputElement | HTMLSelectElement>("[name]")];
    this.target = this.find("[data-target]");
    section.hidden = true;
    section.dataset["wired"] = "";
    section.addEventListener("input", (event) => {
      if (this.inputs.includes(event.target as HTMLInputElement)) this.typed();
    });
    this.target.addEventListener("change", () => this.turn());
    this.find("[data-before]").addEventListener("click", () => this.step(-1));
    this.find("[data-after]").addEventListener("click", () => this.step(1));
    this.find("[data-for-all]").addEventListener("click", () => this.forAll());
  }

  private find<K extends HTMLElement>(selector: string): K {
    const found = this.section.querySelector<K>(selector);
    if (!found) throw new Error(selector);
    return found;
  }

  /** The pictures that are still to be sent. */
  list(pictures: Found[]): void {
    const same = pictures.length === this.listed.length && pictures.every((one, place) => one === this.listed[place]);
    if (same) return;
    const before = this.listed.length > 1 ? this.selected : null;
    this.listed = pictures;
    this.section.hidden = pictures.length === 0;
    const options = pictures.map((found, place) => new Option(found.name, String(place)));
    const all = new Option(t("all {count} images", { count: pictures.length }), ALL);
    this.target.replaceChildren(...(pictures.length > 1 ? [all] : []), ...options);
    const place = before ? pictures.indexOf(before) : -1;
    if (place >= 0) this.target.value = String(place);
    this.find("[data-target-field]").hidden = pictures.length < 2;
    this.turn();
  }

  has(found: Found): boolean {
    return this.own.has(found);
  }

  /** What is known of one picture, as the interface takes it. */
  details(found: Found): Details {
    const said = { ...(this.own.get(found) ?? this.common) };
    for (const [name, value] of Object.entries(said)) if (!value.trim()) delete said[name];
    const name = said["PatientName"];
    if (name) said["PatientName"] = name.replace(/\s*,\s*/, "^");
    return said;
  }

  /** Bring a picture into the form. */
  choose(found: Found): void {
    const place = this.listed.indexOf(found);
    if (place < 0) return;
    this.target.value = this.listed.length > 1 ? String(place) : this.target.value;
    this.turn();
    this.section.scrollIntoView({ block: "nearest" });
    this.inputs[0]?.focus();
  }

  forget(found: Found): void {
    this.own.delete(found);
  }

  private get selected(): Found | null {
    if (this.target.value === ALL) return null;
    return this.listed[Number(this.target.value)] ?? null;
  }

  private typed(): void {
    const said = Object.fromEntries(this.inputs.map((input) => [input.name, input.value]));
    const one = this.listed.length > 1 ? this.selected : null;
    if (one) {
      const first = !this.own.has(one);
      this.own.set(one, said);
      if (first) this.changed(one);
    } else Object.assign(this.common, said);
    this.find("[data-for-all]").hidden = one === null;
  }

  private forAll(): void {
    const one = this.selected;
    if (one) Object.assign(this.common, this.own.get(one) ?? {});
    const had = [...this.own.keys()];
    this.own.clear();
    for (const found of had) this.changed(found);
    this.target.value = ALL;
    this.turn();
    this.target.focus();
  }

  private step(by: number): void {
    const options = this.target.options.length;
    this.target.selectedIndex = (this.target.selectedIndex + by + options) % options;
    this.turn();
  }

  /** Show the details and the picture of whoever is selected. */
  private turn(): void {
    const one = this.selected;
    const said = (one && this.own.get(one)) ?? this.common;
    for (const input of this.inputs) input.value = said[input.name] ?? "";
    this.find("[data-for-all]").hidden = this.listed.length < 2 || one === null || !this.own.has(one);
    const seen = one ?? this.listed[0] ?? null;
    this.preview(seen, one === null && this.listed.length > 1);
  }

  private preview(found: Found | null, firstOfAll: boolean): void {
    const figure = this.find("[data-preview]");
    figure.hidden = found === null;
    const film = this.find("[data-film]");
    if (this.shown) URL.revokeObjectURL(this.shown);
    this.shown = null;
    film.replaceChildren();
    if (!found) return;
    const caption = this.find("[data-caption]");
    caption.textContent = firstOfAll ? t("{name}, the first of {count}", { name: found.name, count: this.listed.length }) : found.name;
    if (!SHOWN_BY_BROWSERS.test(found.name)) {
      film.textContent = ARCHIVE.test(found.name) ? t("Pictures in a ZIP are not shown here.") : t("This browser does not show TIFF.");
      return;
    }
    const picture = document.createElement("img");
    picture.alt = t("Preview of {name}", { name: found.name });
    picture.decoding = "async";
    picture.addEventListener("error", () => {
      film.textContent = t("This image cannot be shown.");
    });
    this.shown = URL.createObjectURL(found.file);
    picture.src = this.shown;
    film.append(picture);
  }
}
