/** What is seen of the room, and through which window: one view for every pane. */

import type { Types } from "@cornerstonejs/core";

import { TABLE_TOP, type Grade } from "./grades";
import type { Placed } from "./images";
import { seenInverted } from "./pixels";

export interface View {
  /** The middle of a pane, in the room's units. */
  x: number;
  y: number;
  /** Units of the room for each CSS pixel. */
  scale: number;
  /** Degrees, clockwise: 0, 90, 180 or 270. */
  turn: number;
  /** Whether left and right, above and below are exchanged, before the turn. */
  across: boolean;
  down: boolean;
  grade: Grade;
  invert: boolean;
}

export interface Room {
  width: number;
  height: number;
}

/** The scale at which the whole room fits into a pane. */
export function fitting(room: Room, turn: number, pane: { width: number; height: number }): number {
  const [width, height] = turn % 180 ? [room.height, room.width] : [room.width, room.height];
  return Math.max(width / Math.max(1, pane.width), height / Math.max(1, pane.height));
}

/** The room's vector that a vector on the screen stands for. */
export function across(view: View, dx: number, dy: number): [number, number] {
  const angle = (-view.turn * Math.PI) / 180;
  const x = (dx * Math.cos(angle) - dy * Math.sin(angle)) * view.scale;
  const y = (dx * Math.sin(angle) + dy * Math.cos(angle)) * view.scale;
  return [view.across ? -x : x, view.down ? -y : y];
}

/** Put `viewport` where the view says. `processor`: it is drawn by the processor. */
export function look(viewport: Types.IStackViewport, view: View, spacing: [number, number], processor: boolean): void {
  const focal: Types.Point3 = [view.x, view.y, 0];
  // Its type hides the method, which alone turns without moving and without rounding the zoom.
  const turnable = viewport as unknown as { setRotation(degrees: number): void };
  if (processor) {
    turnable.setRotation(view.turn);
    const scale = (Math.min(...spacing) * (window.devicePixelRatio || 1)) / view.scale;
    viewport.setCamera({ flipHorizontal: view.across, flipVertical: view.down, scale });
    viewport.setCamera({ focalPoint: focal });
    return;
  }
  viewport.setCamera({ flipHorizontal: view.across, flipVertical: view.down });
  turnable.setRotation(view.turn);
  const { viewPlaneNormal, position, focalPoint } = viewport.getCamera();
  if (!viewPlaneNormal || !position || !focalPoint) return;
  const away = Math.hypot(...position.map((p, i) => p - (focalPoint[i] as number))) || 1;
  viewport.setCamera({
    parallelScale: (view.scale * viewport.element.clientHeight) / 2,
    focalPoint: focal,
    position: focal.map((p, i) => p + away * (viewPlaneNormal[i] as number)) as Types.Point3,
  });
}

/** The window of the view in the stored values of an image, and whether it is seen inverted. */
export function windowOf(view: View, placed: Placed): { lower: number; upper: number; invert: boolean } {
  const { header } = placed;
  const { lower, upper } = view.grade;
  const invert = seenInverted(header) !== view.invert;
  if (view.grade.table !== null) return { lower, upper, invert: header.inverted !== view.invert };
  const ends = [(lower - header.intercept) / header.slope, (upper - header.intercept) / header.slope];
  return { lower: Math.min(...ends), upper: Math.max(...ends), invert };
}

/** The grade with another middle and width; never narrower than a grey level, never off the scale. */
export function moved(grade: Grade, middle: number, width: number, least: number): Grade {
  const half = Math.max(least, width) / 2;
  const top = grade.table === null ? Infinity : 2 * TABLE_TOP;
  const at = Math.min(top, Math.max(-top, middle));
  return { ...grade, lower: at - half, upper: at + half };
}
