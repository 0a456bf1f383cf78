/** Mouse, pen and fingers on the panes: window, pan, zoom and pinch; the divider of the swipe. */

import { moved } from "./view";
import type { Pointer, Stage } from "./stage";

interface Finger {
  x: number;
  y: number;
  task: Pointer;
}

/** A drag over the whole pane changes the window by this many times its width. */
const WINDOW_REACH = 2;
const TAP_MS = 350;
/** How far above a finger the magnifier is seen. */
const LIFT = 150;
/** What the viewer does by itself; the others are tools of Cornerstone's. */
const OWN = new Set<Pointer>(["window", "pan", "zoom", "magnify"]);

export function wireGestures(stage: Stage, signal: AbortSignal, told: (x: number, y: number) => void): void {
  const { element } = stage;
  const fingers = new Map<number, Finger>();
  let tapped = 0;

  const filmAt = (event: Event): HTMLElement | null =>
    event.target instanceof Element ? event.target.closest<HTMLElement>(".film") : null;

  const middle = (film: HTMLElement, x: number, y: number): [number, number] => {
    const box = film.getBoundingClientRect();
    return [x - box.left - box.width / 2, y - box.top - box.height / 2];
  };

  const magnify = (film: HTMLElement, event: PointerEvent): void => {
    const [dx, dy] = middle(film, event.clientX, event.clientY);
    stage.magnify({ dx, dy, lift: event.pointerType === "touch" ? LIFT : 0 });
  };

  element.addEventListener(
    "wheel",
    (event) => {
      const film = filmAt(event);
      if (!film) return;
      event.preventDefault();
      stage.zoomBy(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 400)), ...middle(film, event.clientX, event.clientY));
    },
    { passive: false, signal },
  );

  element.addEventListener(
    "pointerdown",
    (event) => {
      const film = filmAt(event);
      if (!film) return;
      const task = taskOf(stage.pointer, event);
      const own = OWN.has(task);
      if (!own && event.pointerType !== "touch") return; // a tool of Cornerstone's has it
      if (own) film.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY, task });
      if (task === "magnify") magnify(film, event);
    },
    { signal },
  );

  element.addEventListener(
    "pointermove",
    (event) => {
      const film = filmAt(event);
      if (film) told(...stage.placeAt(film, event.clientX, event.clientY));
      const finger = fingers.get(event.pointerId);
      if (!finger || !film) return;
      const dx = event.clientX - finger.x;
      const dy = event.clientY - finger.y;
      const other = [...fingers.entries()].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const before = Math.hypot(finger.x - other.x, finger.y - other.y);
        const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
        stage.panBy(dx / 2, dy / 2);
        const at = middle(film, (event.clientX + other.x) / 2, (event.clientY + other.y) / 2);
        stage.zoomBy(after / Math.max(1, before), ...at);
      } else if (finger.task === "pan") stage.panBy(dx, dy);
      else if (finger.task === "zoom") stage.zoomBy(Math.exp(-dy / 150));
      else if (finger.task === "magnify") magnify(film, event);
      else if (finger.task === "window") shiftWindow(stage, film, dx, dy);
      finger.x = event.clientX;
      finger.y = event.clientY;
    },
    { signal },
  );

  for (const name of ["pointerup", "pointercancel"] as const) {
    element.addEventListener(
      name,
      (event) => {
        if (fingers.get(event.pointerId)?.task === "magnify") stage.magnify(null);
        fingers.delete(event.pointerId);
        if (event.pointerType !== "touch" || name === "pointercancel" || !["window", "pan", "zoom"].includes(stage.pointer)) return;
        if (event.timeStamp - tapped < TAP_MS) between(stage, filmAt(event), event, middle);
        tapped = event.timeStamp;
      },
      { signal },
    );
  }
  element.addEventListener("dblclick", (event) => between(stage, filmAt(event), event, middle), { signal });
  element.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
}

/** From the whole picture to one pixel for one, about the point, and back. */
function between(
  stage: Stage,
  film: HTMLElement | null,
  event: MouseEvent,
  middle: (film: HTMLElement, x: number, y: number) => [number, number],
): void {
  if (!film || !["window", "pan", "zoom"].includes(stage.pointer)) return;
  if (stage.zoom >= 0.99) stage.fit();
  else stage.zoomBy(1 / stage.zoom, ...middle(film, event.clientX, event.clientY));
}

/** The middle button moves, the right one enlarges, as everywhere; the left one does what was chosen. */
function taskOf(chosen: Pointer, event: PointerEvent): Pointer {
  if (event.pointerType === "mouse" && event.button === 1) return "pan";
  if (event.pointerType === "mouse" && event.button === 2) return "zoom";
  if (event.ctrlKey || event.metaKey) return "pan";
  return chosen;
}

/** Sideways changes the width, up and down the level; over the difference map its scale. */
export function shiftWindow(stage: Stage, film: HTMLElement | null, dx: number, dy: number): void {
  const { width: wide, height: high } = stage.size();
  if (film?.dataset["pane"] === "difference") {
    stage.setReach((stage.reach ?? 1) * Math.exp((dx * WINDOW_REACH) / wide));
    return;
  }
  const { lower, upper } = stage.view.grade;
  const width = upper - lower;
  const wider = width * Math.exp((dx * WINDOW_REACH) / wide);
  stage.grade(moved(stage.view.grade, (lower + upper) / 2 - (dy * width) / high, wider, 1));
}

export function wireDivider(stage: Stage, divider: HTMLElement, signal: AbortSignal): void {
  const show = (): void => divider.setAttribute("aria-valuenow", String(Math.round(stage.divide)));
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId), { signal });
  divider.addEventListener(
    "pointermove",
    (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const box = stage.element.getBoundingClientRect();
      stage.split(((event.clientX - box.left) / box.width) * 100);
    },
    { signal },
  );
  divider.addEventListener(
    "keydown",
    (event) => {
      const by = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      stage.split(stage.divide + by);
    },
    { signal },
  );
  stage.onChange(show);
  show();
}
