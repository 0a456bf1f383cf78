/**
 * What the viewer must know of an image besides its pixels, read from the DICOM JSON model that our WADO-RS
 * answers with, or from the data set of a file.
 */

import type { wadouri } from "@cornerstonejs/dicom-image-loader";

type DataSet = ReturnType<typeof wadouri.dataSetCacheManager.get>;

/** A look-up table (PS3.3 C.11.1, C.11.2): entries for the values from `first` on, each of `bits` bits. */
export interface Table {
  entries: Uint16Array;
  first: number;
  bits: number;
  words: string;
}

export interface Window {
  centre: number;
  width: number;
  words: string;
}

/** How far lengths may be believed: the plane that the spacing belongs to. */
export type Ruler = "calibrated" | "unstated" | "detector" | "film" | "none";

export interface Header {
  rows: number;
  columns: number;
  bitsAllocated: number;
  bitsStored: number;
  signed: boolean;
  /** Whether high values are to be seen dark. */
  inverted: boolean;
  slope: number;
  intercept: number;
  windows: Window[];
  shape: "LINEAR" | "LINEAR_EXACT" | "SIGMOID";
  modality: Table | null;
  voi: Table[];
  padding: [number, number] | null;
  /** Millimetres between rows and between columns; null where no spacing is known. */
  spacing: [number, number] | null;
  ruler: Ruler;
}

/** Values by their tags, whatever they were read from. */
interface Values {
  numbers(tag: string): number[];
  words(tag: string): string[];
  items(tag: string): Values[];
  /** The 16-bit words of a look-up table. */
  lut(count: number): Promise<Uint16Array | null>;
}

interface Attribute {
  vr: string;
  Value?: unknown[];
  InlineBinary?: string;
  BulkDataURI?: string;
}

export type Model = Record<string, Attribute>;

const ROWS = "00280010";
const COLUMNS = "00280011";

export function headerOfModel(model: Model): Promise<Header> {
  return read(valuesOfModel(model));
}

export function headerOfFile(ds: DataSet): Promise<Header> {
  return read(valuesOfFile(ds));
}

async function read(values: Values): Promise<Header> {
  const one = (tag: string, otherwise: number): number => values.numbers(tag)[0] ?? otherwise;
  const rows = one(ROWS, 0);
  const columns = one(COLUMNS, 0);
  if (!(rows > 0 && columns > 0)) throw new Error("the image has no size");
  const allocated = one("00280100", 16);
  const stored = Math.min(allocated, one("00280101", allocated));
  const signed = one("00280103", 0) === 1;
  const shape = (values.words("00281056")[0] ?? "").toUpperCase();
  const photometric = values.words("00280004")[0] ?? "MONOCHROME2";
  const wanted = values.words("20500020")[0] ?? "";
  return {
    rows,
    columns,
    bitsAllocated: allocated,
    bitsStored: stored,
    signed,
    inverted: wanted ? wanted === "INVERSE" : photometric === "MONOCHROME1",
    slope: one("00281053", 1) || 1,
    intercept: one("00281052", 0),
    windows: windows(values),
    shape: shape === "LINEAR_EXACT" || shape === "SIGMOID" ? shape : "LINEAR",
    modality: (await tables(values, "00283000", signed))[0] ?? null,
    voi: await tables(values, "00283010", signed),
    padding: padding(values),
    ...spacing(values),
  };
}

function windows(values: Values): Window[] {
  const centres = values.numbers("00281050");
  const widths = values.numbers("00281051");
  const words = values.words("00281055");
  return centres.flatMap((centre, i) => {
    const width = widths[i];
    return width !== undefined && width > 0 ? [{ centre, width, words: words[i] ?? "" }] : [];
  });
}

function padding(values: Values): [number, number] | null {
  const value = values.numbers("00280120")[0];
  if (value === undefined) return null;
  const limit = values.numbers("00280121")[0] ?? value;
  return [Math.min(value, limit), Math.max(value, limit)];
}

/** The spacing that lengths are measured with, and what is known of it (PS3.3 10.7.1.1). */
function spacing(values: Values): { spacing: [number, number] | null; ruler: Ruler } {
  const pair = (tag: string): [number, number] | null => {
    const [down, across] = values.numbers(tag);
    return down !== undefined && across !== undefined && down > 0 && across > 0 ? [down, across] : null;
  };
  const patient = pair("00280030");
  const detector = pair("00181164");
  const film = pair("00182010");
  if (patient) {
    const same = detector && Math.abs(patient[0] - detector[0]) < 1e-6 && Math.abs(patient[1] - detector[1]) < 1e-6;
    const stated = values.words("00280A02").length > 0;
    if (stated || (detector && !same)) return { spacing: patient, ruler: "calibrated" };
    return { spacing: patient, ruler: detector ? "detector" : "unstated" };
  }
  if (detector) return { spacing: detector, ruler: "detector" };
  return film ? { spacing: film, ruler: "film" } : { spacing: null, ruler: "none" };
}

async function tables(values: Values, sequence: string, signed: boolean): Promise<Table[]> {
  const found: Table[] = [];
  for (const item of values.items(sequence)) {
    const [count, start, bits] = item.numbers("00283002");
    if (count === undefined || start === undefined || bits === undefined) continue;
    const entries = await item.lut(count & 0xffff || 0x10000);
    if (!entries || entries.length < 2) continue;
    const first = signed && start >= 0x8000 ? start - 0x10000 : start; // written as US where SS was meant
    const most = entries.reduce((a, b) => Math.max(a, b), 0);
    const needed = Math.max(bits, 32 - Math.clz32(most));
    found.push({ entries, first, bits: needed, words: item.words("00283003")[0] ?? "" });
  }
  return found;
}

function valuesOfModel(model: Model): Values {
  const list = (tag: string): unknown[] => model[tag]?.Value ?? [];
  return {
    numbers: (tag) => list(tag).map(Number).filter(Number.isFinite),
    words: (tag) => list(tag).flatMap((value) => (typeof value === "string" && value.trim() ? [value.trim()] : [])),
    items: (tag) => list(tag).map((item) => valuesOfModel((item ?? {}) as Model)),
    lut: async (count) => {
      const data = model["00283006"];
      if (data?.Value) return Uint16Array.from(data.Value.map(Number));
      if (data?.InlineBinary) return entriesOf(Uint8Array.from(atob(data.InlineBinary), (c) => c.charCodeAt(0)), count);
      if (!data?.BulkDataURI) return null;
      const answer = await fetch(data.BulkDataURI, { headers: { Accept: "application/octet-stream" } });
      return answer.ok ? entriesOf(new Uint8Array(await answer.arrayBuffer()), count) : null;
    },
  };
}

function valuesOfFile(ds: DataSet): Values {
  const strings = (tag: string): string[] =>
    (ds.string(`x${tag.toLowerCase()}`) ?? "").split("\\").flatMap((word) => (word.trim() ? [word.trim()] : []));
  return {
    numbers: (tag) => {
      const key = `x${tag.toLowerCase()}`;
      const element = ds.elements[key];
      if (!element) return [];
      if (element.vr === "SS") return binary(element.length, (i) => ds.int16(key, i));
      if (element.vr === "US" || element.vr === "OW") return binary(element.length, (i) => ds.uint16(key, i));
      return strings(tag).map(Number).filter(Number.isFinite);
    },
    words: strings,
    items: (tag) =>
      (ds.elements[`x${tag.toLowerCase()}`]?.items ?? []).flatMap((item) => (item.dataSet ? [valuesOfFile(item.dataSet)] : [])),
    lut: (count) => {
      const data = ds.elements["x00283006"];
      if (!data) return Promise.resolve(null);
      return Promise.resolve(entriesOf(ds.byteArray.slice(data.dataOffset, data.dataOffset + data.length) as Uint8Array, count));
    },
  };
}

function binary(bytes: number, at: (index: number) => number | undefined): number[] {
  return Array.from({ length: bytes >> 1 }, (_, i) => at(i) ?? 0);
}

/** Table entries in little endian, of two bytes each, or of one where that is all that there is. */
function entriesOf(bytes: Uint8Array, count: number): Uint16Array {
  if (bytes.length < 2 * count) return Uint16Array.from(bytes.subarray(0, count));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint16Array.from({ length: count }, (_, i) => view.getUint16(2 * i, true));
}
