/** Pictures as images of Cornerstone's, all in one room of coordinates: the same anatomy, the same place. */

import { cache, Enums, imageLoader, metaData, type Types, utilities } from "@cornerstonejs/core";

import { shadeBy, TABLE_TOP } from "./grades";
import type { Header } from "./header";
import type { Values } from "./pixels";

const SCHEME = "cxr";
const { MetadataModules } = Enums;

/** The room: its origin is the upper left edge of each image, its unit millimetres, or pixels of the original. */
export interface Placed {
  id: string;
  image: Types.IImage;
  /** Units of the room between rows and between columns. */
  spacing: [number, number];
  header: Header;
  values: Values;
}

interface Known {
  image: Types.IImage;
  modules: Record<string, unknown>;
}

const known = new Map<string, Known>();
let registered = false;
let counter = 0;

function register(): void {
  if (registered) return;
  registered = true;
  imageLoader.registerImageLoader(SCHEME, ((id: string) => {
    const found = known.get(id);
    return { promise: found ? Promise.resolve(found.image) : Promise.reject(new Error("no such image")) };
  }) as unknown as Types.ImageLoaderFn);
  metaData.addProvider((type: string, id: string) => known.get(id)?.modules[type], 10_000);
}

/**
 * Make an image of `values`. `centred`: whether the renderer takes an image's position for the middle of its
 * first pixel (the graphics card's) or for its corner (the processor's).
 */
export function place(header: Header, values: Values, spacing: [number, number], centred: boolean): Placed {
  register();
  const { rows, columns } = header;
  const id = `${SCHEME}:${++counter}`;
  const [down, across] = spacing;
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const voxelManager = utilities.VoxelManager.createImageVoxelManager({
    scalarData: values,
    width: columns,
    height: rows,
    numberOfComponents: 1,
  });
  const image = {
    imageId: id,
    dataType: values.constructor.name,
    minPixelValue: low,
    maxPixelValue: high,
    slope: 1,
    intercept: 0,
    windowCenter: (low + high + 1) / 2,
    windowWidth: high - low + 1,
    voiLUTFunction: Enums.VOILUTFunctionType.LINEAR,
    rows,
    columns,
    height: rows,
    width: columns,
    color: false,
    rgba: false,
    numberOfComponents: 1,
    rowPixelSpacing: down,
    columnPixelSpacing: across,
    invert: false,
    photometricInterpretation: "MONOCHROME2",
    sizeInBytes: values.byteLength,
    getPixelData: () => values,
    getCanvas: undefined,
    voxelManager,
  } as unknown as Types.IImage;
  const corner = centred ? [across / 2, down / 2, 0] : [0, 0, 0];
  known.set(id, {
    image,
    modules: {
      [MetadataModules.IMAGE_PIXEL]: {
        bitsAllocated: header.bitsAllocated,
        bitsStored: header.bitsStored,
        highBit: header.bitsStored - 1,
        pixelRepresentation: header.signed ? 1 : 0,
        photometricInterpretation: "MONOCHROME2",
        samplesPerPixel: 1,
        rows,
        columns,
      },
      [MetadataModules.IMAGE_PLANE]: {
        frameOfReferenceUID: SCHEME,
        rows,
        columns,
        imageOrientationPatient: [1, 0, 0, 0, 1, 0],
        imagePositionPatient: corner,
        rowCosines: [1, 0, 0],
        columnCosines: [0, 1, 0],
        rowPixelSpacing: down,
        columnPixelSpacing: across,
        pixelSpacing: [down, across],
        usingDefaultValues: false,
      },
      [MetadataModules.GENERAL_SERIES]: { modality: "DX" },
      [MetadataModules.VOI_LUT]: {},
      [MetadataModules.MODALITY_LUT]: {},
    },
  });
  return { id, image, spacing, header, values };
}

/** The image with table `which` of its header worked into its values. */
export function shaded(from: Placed, which: number, centred: boolean): Placed {
  const shade = shadeBy(from.header, which);
  const { slope, intercept } = from.header;
  const { minPixelValue: low, maxPixelValue: high } = from.image;
  const entries = new Uint16Array(high - low + 1);
  for (let i = 0; i < entries.length; i++) entries[i] = shade((i + low) * slope + intercept);
  const values = new Uint16Array(from.values.length);
  for (let i = 0; i < values.length; i++) values[i] = entries[(from.values[i] as number) - low] as number;
  const header: Header = { ...from.header, signed: false, bitsStored: 16, bitsAllocated: 16, slope: 1, intercept: 0 };
  const made = place(header, values, from.spacing, centred);
  made.image.minPixelValue = 0; // the whole range of the table, whichever part of it the image uses
  made.image.maxPixelValue = TABLE_TOP;
  return made;
}

export function forget(placed: Placed): void {
  known.delete(placed.id);
  try {
    cache.removeImageLoadObject(placed.id);
  } catch {
    // it was never shown
  }
}
