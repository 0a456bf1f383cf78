/** The magnifier: a small pane of its own over a pane, with the same image and window, enlarged about a place. */

import { Enums, type RenderingEngine, type Types } from "@cornerstonejs/core";

import type { Placed } from "./images";
import { look, type View } from "./view";

export const LENS_TIMES = 3;

export class Lens {
  private readonly element = document.createElement("div");
  private readonly viewport: Types.IStackViewport;
  private showing = "";

  constructor(
    private readonly engine: RenderingEngine,
    film: HTMLElement,
    private readonly id: string,
    private readonly processor: boolean,
  ) {
    this.element.className = "lens";
    film.append(this.element);
    engine.enableElement({
      viewportId: id,
      type: Enums.ViewportType.STACK,
      element: this.element,
      defaultOptions: { background: [0, 0, 0] },
    });
    this.element.removeAttribute("tabindex");
    this.viewport = engine.getViewport(id) as Types.IStackViewport;
  }

  /** Show `image` as `view` says, about its middle, in CSS pixels (dx, dy) from the middle of the pane. */
  async show(image: Placed, view: View, window: { lower: number; upper: number; invert: boolean }, dx: number, dy: number): Promise<void> {
    this.element.style.left = `calc(50% + ${dx}px)`;
    this.element.style.top = `calc(50% + ${dy}px)`;
    if (this.showing !== image.id) {
      this.showing = image.id;
      await this.viewport.setStack([image.id]);
    }
    if (!this.engine.getViewport(this.id)) return; // it was taken away meanwhile
    const { lower, upper, invert } = window;
    this.viewport.setProperties({ voiRange: { lower, upper }, invert });
    look(this.viewport, { ...view, scale: view.scale / LENS_TIMES }, image.spacing, this.processor);
    this.viewport.render();
  }

  destroy(): void {
    this.engine.disableElement(this.id);
    this.element.remove();
  }
}
