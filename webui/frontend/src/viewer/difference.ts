/** What the enhancement added: the result minus the original enlarged by cubic interpolation, in grey levels. */

import type { Header } from "./header";
import type { Values } from "./pixels";

export interface Difference {
  /** Stored values of the result minus those of the enlarged original, at the result's pixels. */
  values: Int16Array;
  /** The grey levels within which 99.9 % of all pixels lie. */
  reach: number;
  /** The greatest difference anywhere. */
  most: number;
}

interface Taps {
  index: Int32Array;
  weight: Float32Array;
}

const AT_ONCE_MS = 24;

/** Whether both images tell their grey levels in the same units. */
export function comparable(source: Header, result: Header): boolean {
  return source.slope === result.slope && source.intercept === result.intercept && source.inverted === result.inverted;
}

export async function difference(
  source: { header: Header; values: Values },
  result: { header: Header; values: Values },
  signal: AbortSignal,
): Promise<Difference> {
  const { rows, columns } = result.header;
  const wide = source.header.columns;
  const over = taps(columns, wide);
  const downward = taps(rows, source.header.rows);
  const values = new Int16Array(rows * columns);
  const stretched = new Map<number, Float32Array>();
  const line = (row: number): Float32Array => {
    let found = stretched.get(row);
    if (!found) stretched.set(row, (found = stretch(source.values, row * wide, over, columns)));
    return found;
  };
  let most = 0;
  let since = performance.now();
  for (let y = 0; y < rows; y++) {
    const [a, b, c, d] = [0, 1, 2, 3].map((k) => line(downward.index[4 * y + k] as number)) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const [p, q, r, s] = downward.weight.subarray(4 * y, 4 * y + 4) as unknown as [number, number, number, number];
    for (let x = 0, at = y * columns; x < columns; x++, at++) {
      const enlarged = p * (a[x] as number) + q * (b[x] as number) + r * (c[x] as number) + s * (d[x] as number);
      const by = Math.round((result.values[at] as number) - enlarged);
      values[at] = by > 32767 ? 32767 : by < -32767 ? -32767 : by;
      const size = Math.abs(values[at] as number);
      if (size > most) most = size;
    }
    for (const row of stretched.keys()) if (row < (downward.index[4 * y] as number)) stretched.delete(row);
    if (performance.now() - since > AT_ONCE_MS) {
      await new Promise((resolve) => window.setTimeout(resolve));
      signal.throwIfAborted();
      since = performance.now();
    }
  }
  return { values, most, reach: reachOf(values) };
}

/** For each of `count` places the four nearest of `from` samples and their weights (Catmull-Rom). */
function taps(count: number, from: number): Taps {
  const index = new Int32Array(4 * count);
  const weight = new Float32Array(4 * count);
  for (let i = 0; i < count; i++) {
    const place = ((i + 0.5) * from) / count - 0.5;
    const first = Math.floor(place) - 1;
    for (let k = 0; k < 4; k++) {
      index[4 * i + k] = Math.min(from - 1, Math.max(0, first + k));
      weight[4 * i + k] = cubic(Math.abs(place - first - k));
    }
  }
  return { index, weight };
}

function cubic(x: number): number {
  if (x < 1) return 1 - 2.5 * x ** 2 + 1.5 * x ** 3;
  return x < 2 ? 2 - 4 * x + 2.5 * x ** 2 - 0.5 * x ** 3 : 0;
}

function stretch(values: Values, start: number, over: Taps, count: number): Float32Array {
  const line = new Float32Array(count);
  const { index, weight } = over;
  for (let x = 0, k = 0; x < count; x++, k += 4) {
    line[x] =
      (weight[k] as number) * (values[start + (index[k] as number)] as number) +
      (weight[k + 1] as number) * (values[start + (index[k + 1] as number)] as number) +
      (weight[k + 2] as number) * (values[start + (index[k + 2] as number)] as number) +
      (weight[k + 3] as number) * (values[start + (index[k + 3] as number)] as number);
  }
  return line;
}

function reachOf(values: Int16Array): number {
  const counts = new Uint32Array(32768);
  for (const value of values) {
    const size = Math.abs(value);
    counts[size] = (counts[size] as number) + 1;
  }
  let left = Math.floor(values.length / 1000);
  for (let size = counts.length - 1; size > 0; size--) {
    left -= counts[size] as number;
    if (left < 0) return Math.max(1, size);
  }
  return 1;
}
