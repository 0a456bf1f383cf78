/**
 * Which renderer is right here. Thin clients and software WebGL may draw nothing and say nothing, so a small
 * image is drawn and read back before the graphics card is believed.
 */

import { cache, Enums, init as initCore, RenderingEngine, setUseCPURendering, type Types } from "@cornerstonejs/core";
import { getRenderingCapabilities } from "@cornerstonejs/core/utilities/renderingCapabilities";
import { init as initLoader } from "@cornerstonejs/dicom-image-loader";

import type { Header } from "./header";
import { forget, place } from "./images";

/** Decoders at once; each has a copy of its image. */
const DECODERS = 2;
const PROBE = 16;
/** How far a shade read back may lie from the right one. */
const TOLERANCE = 3;

let choice: Promise<boolean> | null = null;

/** Start Cornerstone once; true when the processor draws. */
export function start(): Promise<boolean> {
  choice ??= begin();
  return choice;
}

async function begin(): Promise<boolean> {
  initCore();
  initLoader({ maxWebWorkers: DECODERS });
  cache.setMaxCacheSize(4 * 1024 ** 3);
  const able = getRenderingCapabilities();
  const wanted = new URLSearchParams(location.hash.slice(1)).get("renderer");
  const trusted = able.webgl2 && able.floatLinear && (wanted === "gpu" || (wanted !== "cpu" && !able.softwareRasterizer));
  if (trusted && (await draws())) return false;
  setUseCPURendering(true);
  return true;
}

/** Whether an image of `side` pixels fits into a texture. */
export function fitsTexture(side: number): boolean {
  return side <= getRenderingCapabilities().maxTextureSize;
}

export function useProcessor(): void {
  setUseCPURendering(true);
  choice = Promise.resolve(true);
}

/** Draw a known image by the graphics card and read two of its shades back. */
async function draws(): Promise<boolean> {
  const element = document.createElement("div");
  Object.assign(element.style, { position: "fixed", left: "-100px", top: "0", width: `${PROBE}px`, height: `${PROBE}px` });
  document.body.append(element);
  const engine = new RenderingEngine("probe");
  const header = { rows: PROBE, columns: PROBE, bitsAllocated: 16, bitsStored: 16, signed: false } as Header;
  const values = Uint16Array.from({ length: PROBE * PROBE }, (_, i) => (i % PROBE < PROBE / 2 ? 1000 : 3000));
  const image = place(header, values, [1, 1], true);
  try {
    engine.enableElement({ viewportId: "probe", type: Enums.ViewportType.STACK, element });
    const viewport = engine.getViewport("probe") as Types.IStackViewport;
    await viewport.setStack([image.id]);
    viewport.setProperties({ voiRange: { lower: 0, upper: 4000 } });
    const drawn = new Promise<void>((resolve) => {
      element.addEventListener(Enums.Events.IMAGE_RENDERED, () => resolve(), { once: true });
      window.setTimeout(resolve, 1500);
    });
    viewport.render();
    await drawn;
    const canvas = viewport.getCanvas();
    const context = canvas.getContext("2d");
    const shade = (share: number): number =>
      context?.getImageData(Math.floor(canvas.width * share), canvas.height >> 1, 1, 1).data[0] ?? -1;
    return Math.abs(shade(0.25) - 64) <= TOLERANCE && Math.abs(shade(0.75) - 191) <= TOLERANCE;
  } catch {
    return false;
  } finally {
    engine.destroy();
    forget(image);
    element.remove();
  }
}
