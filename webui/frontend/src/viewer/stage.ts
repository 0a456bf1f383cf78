/** The panes: source, result and their difference, seen through one view, in one of the ways to compare. */

import { Enums, RenderingEngine, type Types } from "@cornerstonejs/core";

import { comparable, difference } from "./difference";
import { type Grade, gradesOf, type Spread, spread } from "./grades";
import { forget, place } from "./images";
import { Lens } from "./lens";
import { Marks, type Rectangle, unit } from "./marks";
import { captionOf, type Name, type Pane, pictureFor, valueAt, windowFor } from "./pane";
import type { Picture } from "./pixels";
import { across, fitting, look, type Room, type View } from "./view";

export type Mode = "beside" | "swipe" | "flicker" | "difference" | "single";
export type Pointer = "window" | "pan" | "zoom" | "ruler" | "angle" | "rectangle" | "magnify";

export interface Given {
  source: Picture | null;
  result: Picture | null;
  /** How many pixels of the result stand for one of the source, along a side. */
  scale: number;
  processor: boolean;
}

const MARKS = new Set<Pointer>(["ruler", "angle", "rectangle"]);
const MOST_SCREEN_PIXELS = 64;
let engines = 0;

export class Stage {
  readonly element = document.createElement("div");
  readonly view: View;
  readonly grades: Grade[];
  readonly room: Room;
  readonly marks: Marks;
  /** Grey levels from the middle of the difference's scale to its end; null before it was computed. */
  reach: number | null = null;
  mode: Mode = "single";
  pointer: Pointer = "window";
  divide = 50;
  /** Which pane of the flicker is seen. */
  facing: Name = "source";
  sharp = false;
  private readonly panes = new Map<Name, Pane>();
  private readonly engine: RenderingEngine;
  private readonly spacing: [number, number];
  private readonly stop = new AbortController();
  private readonly observer: ResizeObserver;
  private fitted = true;
  private waiting = 0;
  private readonly listeners: (() => void)[] = [];

  constructor(private readonly given: Given) {
    const anchor = given.result ?? given.source;
    if (!anchor) throw new Error("there is no image");
    const { header } = anchor;
    const unit = given.result ? 1 / given.scale : 1;
    this.spacing = header.spacing ?? [unit, unit];
    this.room = { width: header.columns * this.spacing[1], height: header.rows * this.spacing[0] };
    const lead = given.source && !given.source.preview ? given.source : anchor;
    this.grades = gradesOf(lead.header, this.spreads(lead));
    const grade = this.grades[0] as Grade;
    const { width, height } = this.room;
    this.view = { x: width / 2, y: height / 2, scale: 1, turn: 0, across: false, down: false, grade, invert: false };
    this.engine = new RenderingEngine(`cxr-${++engines}`);
    this.element.className = "stage";
    this.marks = new Marks(this.engine.id, header.ruler, (corners) => this.tellRectangle(corners));
    this.observer = new ResizeObserver(() => this.resize());
  }

  get ruler(): string {
    return unit((this.given.result ?? this.given.source)?.header.ruler ?? "none");
  }

  /** Whether the pair can be compared, and whether grey by grey. */
  get paired(): boolean {
    return Boolean(this.given.source && this.given.result);
  }

  get subtractable(): boolean {
    const { source, result } = this.given;
    return Boolean(source && result && !source.preview && !result.preview && comparable(source.header, result.header));
  }

  /** 1 where a pixel of the screen shows a pixel of the result (of the source, where it is alone). */
  get zoom(): number {
    return Math.min(...this.spacing) / (this.view.scale * (window.devicePixelRatio || 1));
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Put the panes into the document's stage and show them; ends when the first pictures stand. */
  async open(): Promise<void> {
    const { source, result } = this.given;
    if (source?.preview && result && !result.preview) source.header = this.adopted(source, result);
    if (result?.preview && source && !source.preview) result.header = this.adopted(result, source);
    if (source) await this.add("source", source.header, source.values, source.preview);
    if (result) await this.add("result", result.header, result.values, result.preview);
    this.observer.observe(this.element);
    this.choose(this.paired ? "beside" : "single");
    this.fit();
  }

  private spreads(lead: Picture): Spread {
    const found = spread(lead.values, lead.header, () => false);
    const other = lead === this.given.result ? null : this.given.result;
    if (!other) return found;
    const wide = spread(other.values, other.header, () => false).all;
    return { ...found, all: [Math.min(found.all[0], wide[0]), Math.max(found.all[1], wide[1])] };
  }

  /** A preview was made through the first window: give its 8 bits the other's units, so that windows agree. */
  private adopted(preview: Picture, other: Picture): Picture["header"] {
    const first = this.grades[0] as Grade;
    const { inverted } = other.header;
    if (first.table !== null) return { ...preview.header, inverted };
    const width = first.upper - first.lower;
    return inverted
      ? { ...preview.header, inverted, slope: -width / 255, intercept: first.upper }
      : { ...preview.header, inverted, slope: width / 255, intercept: first.lower };
  }

  private async add(name: Name, header: Picture["header"], values: Picture["values"], preview: boolean): Promise<Pane> {
    const element = document.createElement("div");
    element.className = "film";
    element.dataset["pane"] = name;
    this.element.append(element);
    const spacing: [number, number] = [this.room.height / header.rows, this.room.width / header.columns];
    const base = place(header, values, spacing, !this.given.processor);
    const viewportId = `${this.engine.id}-${name}`;
    this.engine.enableElement({
      viewportId,
      type: Enums.ViewportType.STACK,
      element,
      defaultOptions: { background: [0, 0, 0] },
    });
    element.append(captionOf(name, this.given.scale));
    element.removeAttribute("tabindex"); // the focus stays with the whole viewer, whose keys these are
    const viewport = this.engine.getViewport(viewportId) as Types.IStackViewport;
    await viewport.setStack([base.id]);
    viewport.isReferenceViewable = () => true; // one room: a mark in one pane stands in each
    const pane: Pane = { name, element, viewport, base, shown: base, tables: new Map(), preview, lens: null };
    this.panes.set(name, pane);
    this.marks.add(viewportId);
    return pane;
  }

  // ways to compare

  get faces(): Name[] {
    if (this.mode === "single") return [this.given.result ? "result" : "source"];
    return this.mode === "difference" ? ["result", "difference"] : ["source", "result"];
  }

  choose(mode: Mode): void {
    this.mode = mode;
    this.element.dataset["mode"] = mode;
    for (const pane of this.panes.values()) pane.element.hidden = !this.faces.includes(pane.name);
    this.face(mode === "flicker" ? this.facing : null);
    this.resize();
  }

  /** Exchange the panes of the flicker; enters it from any other way to compare. */
  flicker(): void {
    if (!this.paired) return;
    this.facing = this.mode === "flicker" && this.facing === "source" ? "result" : "source";
    if (this.mode === "flicker") this.face(this.facing);
    else this.choose("flicker");
    this.changed();
  }

  private face(name: Name | null): void {
    for (const pane of this.panes.values()) pane.element.classList.toggle("behind", name !== null && pane.name !== name);
  }

  split(percent: number): void {
    this.divide = Math.min(100, Math.max(0, percent));
    this.element.style.setProperty("--divide", `${this.divide}%`);
    this.changed();
  }

  /** Show the difference map, computing it the first time. */
  async subtract(): Promise<void> {
    const { source, result } = this.given;
    if (!source || !result || !this.subtractable) return;
    if (!this.panes.has("difference")) {
      const found = await difference(source, result, this.stop.signal);
      this.reach = found.reach;
      const header = { ...result.header, inverted: false, slope: 1, intercept: 0, voi: [], windows: [] };
      const pane = await this.add("difference", header, found.values, false);
      if (this.sharp) pane.viewport.setProperties({ interpolationType: Enums.InterpolationType.NEAREST });
    }
    this.choose("difference");
  }

  setReach(reach: number): void {
    this.reach = Math.min(32767, Math.max(1, Math.round(reach)));
    this.draw();
  }

  // the view

  fit(): void {
    const { width, height } = this.room;
    Object.assign(this.view, { x: width / 2, y: height / 2 });
    this.fitted = true;
    this.view.scale = fitting(this.room, this.view.turn, this.size());
    this.draw();
  }

  /** One pixel of the result on each pixel of the screen. */
  fullSize(): void {
    this.fitted = false;
    this.view.scale = Math.min(...this.spacing) / (window.devicePixelRatio || 1);
    this.draw();
  }

  /** Enlarge by `factor` about a point, given in CSS pixels from the middle of a pane. */
  zoomBy(factor: number, dx = 0, dy = 0): void {
    const fit = fitting(this.room, this.view.turn, this.size());
    const least = Math.min(...this.spacing) / MOST_SCREEN_PIXELS;
    const scale = Math.min(8 * fit, Math.max(least, this.view.scale / factor));
    const [bx, by] = across(this.view, dx, dy);
    this.view.scale = scale;
    const [ax, ay] = across(this.view, dx, dy);
    this.fitted = false;
    this.goTo(this.view.x + bx - ax, this.view.y + by - ay);
  }

  /** Move the picture by CSS pixels. */
  panBy(dx: number, dy: number): void {
    const [x, y] = across(this.view, dx, dy);
    this.fitted = false;
    this.goTo(this.view.x - x, this.view.y - y);
  }

  private goTo(x: number, y: number): void {
    this.view.x = Math.min(this.room.width, Math.max(0, x));
    this.view.y = Math.min(this.room.height, Math.max(0, y));
    this.draw();
  }

  turnBy(degrees: number): void {
    this.view.turn = (this.view.turn + degrees + 360) % 360;
    if (this.fitted) this.fit();
    else this.draw();
  }

  /** Exchange left and right, or above and below, as seen on the screen. */
  flip(sideways: boolean): void {
    const turned = this.view.turn % 180 !== 0;
    if (sideways !== turned) this.view.across = !this.view.across;
    else this.view.down = !this.view.down;
    this.draw();
  }

  grade(grade: Grade): void {
    this.view.grade = grade;
    this.draw();
  }

  invert(): void {
    this.view.invert = !this.view.invert;
    this.draw();
  }

  setSharp(sharp: boolean): void {
    this.sharp = sharp;
    const { LINEAR, NEAREST } = Enums.InterpolationType;
    for (const { viewport } of this.panes.values()) viewport.setProperties({ interpolationType: sharp ? NEAREST : LINEAR });
    this.draw();
  }

  reset(): void {
    Object.assign(this.view, { turn: 0, across: false, down: false, invert: false, grade: this.grades[0] });
    this.fit();
  }

  point(pointer: Pointer): void {
    this.pointer = pointer;
    this.element.dataset["pointer"] = pointer;
    this.marks.choose(MARKS.has(pointer) ? (pointer as "ruler") : null);
    this.changed();
  }

  /**
   * Enlarge the surroundings of a point in every pane, given in CSS pixels from the middle; `lift`: how far above
   * the point they are shown. Null ends it.
   */
  magnify(at: { dx: number; dy: number; lift: number } | null): void {
    for (const pane of this.panes.values()) {
      if (!at || !this.faces.includes(pane.name)) {
        pane.lens?.destroy();
        pane.lens = null;
        continue;
      }
      pane.lens ??= new Lens(this.engine, pane.element, `${pane.viewport.id}-lens`, this.given.processor);
      const [bx, by] = across(this.view, at.dx, at.dy);
      const view = { ...this.view, x: this.view.x + bx, y: this.view.y + by };
      void pane.lens.show(pane.shown, view, windowFor(pane, this.view, this.reach), at.dx, at.dy - at.lift);
    }
  }

  /** The size of a pane in CSS pixels. */
  size(): { width: number; height: number } {
    const pane = this.panes.get(this.faces[0] as Name) ?? [...this.panes.values()][0];
    return { width: pane?.element.clientWidth || 1, height: pane?.element.clientHeight || 1 };
  }

  /** The place in the room under a point of the page, over the pane `name`. */
  placeAt(element: HTMLElement, clientX: number, clientY: number): [number, number] {
    const box = element.getBoundingClientRect();
    const [dx, dy] = across(this.view, clientX - box.left - box.width / 2, clientY - box.top - box.height / 2);
    return [this.view.x + dx, this.view.y + dy];
  }

  /** Stored values of each image at a place in the room. */
  valuesAt(x: number, y: number): { name: Name; value: number }[] {
    return [...this.panes.values()].flatMap((pane) => {
      const value = valueAt(pane, x, y);
      return value === null ? [] : [{ name: pane.name, value }];
    });
  }

  private tellRectangle(corners: Types.Point3[] | null): void {
    const { result, source } = this.given;
    const header = (result ?? source)?.header;
    if (!header) return;
    let detail: Rectangle | null = null;
    if (corners?.length) {
      const xs = corners.map((p) => Math.min(header.columns, Math.max(0, Math.round(p[0] / this.spacing[1]))));
      const ys = corners.map((p) => Math.min(header.rows, Math.max(0, Math.round(p[1] / this.spacing[0]))));
      const [x, y] = [Math.min(...xs), Math.min(...ys)];
      detail = { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
      if (!detail.width || !detail.height) return;
    }
    this.element.dispatchEvent(new CustomEvent("viewer-rectangle", { detail, bubbles: true }));
  }

  // drawing

  private resize(): void {
    const ratio = window.devicePixelRatio || 1;
    if (this.given.processor) {
      for (const { element, viewport } of this.panes.values()) {
        const canvas = viewport.getCanvas();
        canvas.width = Math.max(1, Math.round(element.clientWidth * ratio));
        canvas.height = Math.max(1, Math.round(element.clientHeight * ratio));
      }
    } else if (this.panes.size) this.engine.resize(true, true);
    if (this.fitted) this.view.scale = fitting(this.room, this.view.turn, this.size());
    this.draw();
  }

  /** Draw what is seen with the next picture of the screen. */
  draw(): void {
    this.waiting ||= window.requestAnimationFrame(() => {
      this.waiting = 0;
      for (const name of this.faces) {
        const pane = this.panes.get(name);
        if (pane) void this.render(pane);
      }
      this.changed();
    });
  }

  private async render(pane: Pane): Promise<void> {
    const { viewport } = pane;
    const wanted = pictureFor(pane, this.view, !this.given.processor);
    if (wanted !== pane.shown) {
      pane.shown = wanted;
      await viewport.setStack([wanted.id]);
      if (this.sharp) viewport.setProperties({ interpolationType: Enums.InterpolationType.NEAREST });
      if (this.stop.signal.aborted) return;
    }
    const { lower, upper, invert } = windowFor(pane, this.view, this.reach);
    viewport.setProperties({ voiRange: { lower, upper }, invert });
    look(viewport, this.view, pane.shown.spacing, this.given.processor);
    viewport.render();
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }

  destroy(): void {
    this.stop.abort();
    window.cancelAnimationFrame(this.waiting);
    this.observer.disconnect();
    this.marks.destroy();
    this.engine.destroy();
    for (const pane of this.panes.values()) {
      forget(pane.base);
      for (const one of pane.tables.values()) forget(one);
    }
    this.panes.clear();
    this.element.remove();
  }
}
