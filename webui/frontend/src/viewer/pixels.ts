/** Pixels of source and result: stored values in full depth, by WADO-RS or from a file; else a preview. */

import { Enums, imageLoader } from "@cornerstonejs/core";
import { wadors, wadouri } from "@cornerstonejs/dicom-image-loader";

import { type Header, headerOfFile, headerOfModel, type Model } from "./header";
import { look } from "./grades";

/** Where an image comes from: our WADO-RS, a DICOM file, or the 8-bit preview that alone is left. */
export interface Origin {
  metadata?: string;
  frame?: string;
  file?: string;
  preview?: string;
}

export type Values = Uint8Array | Uint16Array | Int16Array;

export interface Picture {
  header: Header;
  /** Stored values, row by row; padding is set to the end that is seen black. */
  values: Values;
  /** Whether this is the preview of 8 bits and not the image itself. */
  preview: boolean;
}

interface Decoded {
  getPixelData(): ArrayLike<number>;
}

const AS_STORED = { preScale: { enabled: false }, useRGBA: false, priority: 5, requestType: Enums.RequestType.Interaction };

export async function pictureOf(origin: Origin): Promise<Picture> {
  if (origin.metadata && origin.frame) return fromWeb(origin.metadata, origin.frame);
  if (origin.file) return fromFile(origin.file);
  if (origin.preview) return fromPreview(origin.preview);
  throw new Error("there is no image");
}

async function fromWeb(metadata: string, frame: string): Promise<Picture> {
  const answer = await fetch(metadata, { headers: { Accept: "application/dicom+json" } });
  if (!answer.ok) throw new Error(`attributes: status ${answer.status}`);
  const model = ((await answer.json()) as Model[])[0];
  if (!model) throw new Error("no attributes");
  const header = await headerOfModel(model);
  const id = `wadors:${new URL(frame, location.href).href}`;
  wadors.metaDataManager.add(id, model as unknown as Parameters<typeof wadors.metaDataManager.add>[1]);
  try {
    return finished(header, await decoded(id));
  } finally {
    wadors.metaDataManager.remove(id);
  }
}

async function fromFile(file: string): Promise<Picture> {
  const answer = await fetch(file);
  if (!answer.ok) throw new Error(`file: status ${answer.status}`);
  const bytes = await answer.arrayBuffer();
  const id = wadouri.fileManager.add(new Blob([bytes]));
  try {
    // the loader reads attributes in its own way and keeps none that a header could be made of
    const ds = await wadouri.dataSetCacheManager.load(id, () => Promise.resolve(bytes), id);
    return finished(await headerOfFile(ds), await decoded(id));
  } finally {
    wadouri.dataSetCacheManager.unload(id);
    wadouri.fileManager.remove(Number(id.split(":")[1]));
  }
}

async function decoded(id: string): Promise<Decoded> {
  return (await imageLoader.loadImage(id, AS_STORED)) as unknown as Decoded;
}

/** The preview: seen as it is, in 8 bits. */
async function fromPreview(address: string): Promise<Picture> {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`preview: status ${answer.status}`);
  const bitmap = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const values = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < values.length; i++) {
    const [red, green, blue] = [data[4 * i] as number, data[4 * i + 1] as number, data[4 * i + 2] as number];
    values[i] = red === green && green === blue ? red : Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
  }
  const header: Header = {
    rows: bitmap.height,
    columns: bitmap.width,
    bitsAllocated: 8,
    bitsStored: 8,
    signed: false,
    inverted: false,
    slope: 1,
    intercept: 0,
    windows: [{ centre: 128, width: 256, words: "" }],
    shape: "LINEAR",
    modality: null,
    voi: [],
    padding: null,
    spacing: null,
    ruler: "none",
  };
  bitmap.close();
  return { header, values, preview: true };
}

/** Bits above the stored ones removed, the Modality LUT worked in, padding made black. */
function finished(header: Header, image: Decoded): Picture {
  const given = image.getPixelData();
  const count = header.rows * header.columns;
  if (given.length !== count) throw new Error("only grey images of one frame are shown");
  const shift = 32 - header.bitsStored;
  const exact = header.signed
    ? (value: number): number => (value << shift) >> shift
    : (value: number): number => (value << shift) >>> shift;
  const table = header.modality ? look(header.modality) : null;
  const values: Values = table || (!header.signed && header.bitsStored > 8)
    ? new Uint16Array(count)
    : header.signed
      ? new Int16Array(count)
      : new Uint8Array(count);
  const [from, to] = header.padding ?? [Infinity, -Infinity];
  let low = Infinity;
  let high = -Infinity;
  const isHidden = (stored: number): boolean => stored >= from && stored <= to;
  for (let i = 0; i < count; i++) {
    const stored = exact(given[i] as number);
    if (isHidden(stored)) continue;
    const value = table ? table(stored) : stored;
    values[i] = value;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const plain: Header = table ? { ...header, slope: 1, intercept: 0, modality: null } : header;
  const dark = seenInverted(plain) ? high : low;
  if (header.padding && Number.isFinite(dark)) {
    for (let i = 0; i < count; i++) if (isHidden(exact(given[i] as number))) values[i] = dark;
  }
  return { header: { ...plain, padding: null }, values, preview: false };
}

/** Whether high stored values are seen dark, with the sign of the rescale slope. */
export function seenInverted(header: Header): boolean {
  return header.inverted !== header.slope < 0;
}
