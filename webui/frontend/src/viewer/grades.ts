/** From stored values to shades: windows, tables, and what can be chosen among (PS3.3 C.11.1 and C.11.2). */

import { language, t } from "../words";
import type { Header, Table, Window } from "./header";

/** One choice of window: a range of the modality's values, or a table with the range of its output. */
export interface Grade {
  words: string;
  lower: number;
  upper: number;
  /** Which table of the header's; null for a plain window. */
  table: number | null;
}

/** The output range of a table that was worked into the pixels. */
export const TABLE_TOP = 65535;

const SIGMOID_TABLE = 1000;

/** The range of a window as the standard's functions mean it. */
export function rangeOf(window: Window, shape: Header["shape"]): [number, number] {
  if (shape === "LINEAR") {
    const half = Math.max(window.width - 1, 1e-6) / 2;
    return [window.centre - 0.5 - half, window.centre - 0.5 + half];
  }
  return [window.centre - window.width / 2, window.centre + window.width / 2];
}

/** Everything the header offers, then what the picture itself gives. `limits`: four values as of `spread`. */
export function gradesOf(header: Header, limits: Spread): Grade[] {
  const grades: Grade[] = header.windows.map((window, i) => {
    const [lower, upper] = rangeOf(window, header.shape);
    const words = window.words || t("Window {number}", { number: i + 1 });
    if (header.shape !== "SIGMOID") return { words, lower, upper, table: null };
    return { words, lower: 0, upper: TABLE_TOP, table: SIGMOID_TABLE + i };
  });
  header.voi.forEach((table, i) => {
    grades.push({ words: table.words || t("Table {number}", { number: i + 1 }), lower: 0, upper: TABLE_TOP, table: i });
  });
  const plain = (words: string, [lower, upper]: [number, number]): void => {
    grades.push({ words, lower, upper: Math.max(upper, lower + 1), table: null });
  };
  plain(t("Nearly all values"), limits.most);
  plain(t("Middle values"), limits.middle);
  plain(t("Full range"), limits.all);
  return grades;
}

/** Width and level of a grade, as radiologists say them. */
export function gradeWords({ lower, upper, table }: Grade): string {
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  const values = { centre: number.format((lower + upper + 1) / 2), width: number.format(upper - lower + 1) };
  return table === null ? t("Window {width}, level {centre}", values) : t("Table, window {width}, level {centre}", values);
}

/** Ranges of the modality's values in an image: of 99.8 % and 90 % of its pixels, and of all. */
export interface Spread {
  most: [number, number];
  middle: [number, number];
  all: [number, number];
}

export function spread(values: ArrayLike<number>, header: Header, hidden: (value: number) => boolean): Spread {
  const step = Math.max(1, Math.floor(values.length / 200_000));
  const sample: number[] = [];
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (hidden(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
    if (i % step === 0) sample.push(value);
  }
  if (low > high) [low, high] = [0, 1];
  const sorted = Float64Array.from(sample).sort();
  const at = (share: number, otherwise: number): number => sorted[Math.round(share * (sorted.length - 1))] ?? otherwise;
  const scaled = (a: number, b: number): [number, number] => {
    const [x, y] = [a * header.slope + header.intercept, b * header.slope + header.intercept];
    return [Math.min(x, y), Math.max(x, y)];
  };
  return {
    most: scaled(at(0.001, low), at(0.999, high)),
    middle: scaled(at(0.05, low), at(0.95, high)),
    all: scaled(low, high),
  };
}

/** The shades, 0 to TABLE_TOP, of the modality's value through table `which` of a grade. */
export function shadeBy(header: Header, which: number): (value: number) => number {
  const window = header.windows[which - SIGMOID_TABLE];
  if (window) {
    return (value) => Math.round(TABLE_TOP / (1 + Math.exp((-4 * (value - window.centre)) / window.width)));
  }
  const table = header.voi[which];
  if (!table) throw new Error("there is no such table");
  const through = look(table);
  const top = 2 ** table.bits - 1;
  return (value) => Math.round((through(value) / top) * TABLE_TOP);
}

/** A table as a function; what lies outside takes the entry at its end. */
export function look(table: Table): (value: number) => number {
  const last = table.entries.length - 1;
  return (value) => table.entries[Math.min(last, Math.max(0, Math.round(value) - table.first))] as number;
}
