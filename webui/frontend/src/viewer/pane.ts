/** One pane: which of its images is shown, through which window, under which words. */

import type { Types } from "@cornerstonejs/core";

import { t } from "../words";
import { TABLE_TOP } from "./grades";
import { type Placed, shaded } from "./images";
import type { Lens } from "./lens";
import { type View, windowOf } from "./view";

export type Name = "source" | "result" | "difference";

export interface Pane {
  name: Name;
  element: HTMLElement;
  viewport: Types.IStackViewport;
  /** The image with its stored values. */
  base: Placed;
  /** What is shown: the image itself, or the one with a table worked in. */
  shown: Placed;
  tables: Map<number, Placed>;
  preview: boolean;
  lens: Lens | null;
}

/** The image of a pane that the view asks for; one with a table worked in is made the first time. */
export function pictureFor(pane: Pane, view: View, centred: boolean): Placed {
  const { table } = view.grade;
  if (table === null || pane.preview || pane.name === "difference") return pane.base;
  let found = pane.tables.get(table);
  if (!found) {
    try {
      found = shaded(pane.base, table, centred);
    } catch {
      found = pane.base; // this image's header has no such table
    }
    pane.tables.set(table, found);
  }
  return found;
}

/** The window of the view in the values that a pane shows; `reach`: half the scale of the difference map. */
export function windowFor(pane: Pane, view: View, reach: number | null): { lower: number; upper: number; invert: boolean } {
  if (pane.name === "difference") return { lower: -(reach ?? 1), upper: reach ?? 1, invert: false };
  if (view.grade.table === null || pane.shown !== pane.base) return windowOf(view, pane.shown);
  const { minPixelValue, maxPixelValue } = pane.base.image; // no such table: the same share of its own range
  const [from, to] = pane.preview ? [0, 255] : [minPixelValue, maxPixelValue];
  const part = (share: number): number => from + (share / TABLE_TOP) * (to - from);
  return { lower: part(view.grade.lower), upper: part(view.grade.upper), invert: pane.base.header.inverted !== view.invert };
}

/** The stored value at a place in the room; null outside, and of a preview, which has none. */
export function valueAt({ base, preview }: Pane, x: number, y: number): number | null {
  const column = Math.floor(x / base.spacing[1]);
  const row = Math.floor(y / base.spacing[0]);
  const { rows, columns } = base.header;
  if (preview || column < 0 || row < 0 || column >= columns || row >= rows) return null;
  return base.values[row * columns + column] as number;
}

export function captionOf(name: Name, scale: number): HTMLElement {
  const words: Record<Name, string> = {
    source: t("Original"),
    result: t("Enhanced ×{scale}", { scale }),
    difference: t("Difference"),
  };
  const caption = document.createElement("p");
  caption.className = "caption small";
  if (name !== "source") {
    const mark = document.createElement("span");
    mark.className = "mark";
    mark.textContent = t("AI-processed");
    caption.append(mark, " ");
  }
  caption.append(words[name]);
  return caption;
}
