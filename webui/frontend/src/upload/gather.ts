/** Files of a drop or a choice, those inside of folders too, without what operating systems leave there. */

/** A file and what people call it: its name, within a folder its path. */
export interface Found {
  readonly file: File;
  readonly name: string;
}

export interface Gathered {
  readonly found: Found[];
  /** Files that are no images by their name alone. */
  readonly clutter: number;
  /** Whether there were more than are taken. */
  readonly more: boolean;
}

export const MOST = 5000;

const CLUTTER = /^(\..*|thumbs\.db|desktop\.ini|dicomdir)$/i;

class Basket {
  readonly found: Found[] = [];
  clutter = 0;
  more = false;

  get full(): boolean {
    return this.found.length >= MOST;
  }

  put(file: File, path: string): void {
    const name = path.replace(/^\//, "");
    if (CLUTTER.test(file.name) || name.startsWith("__MACOSX/")) this.clutter += 1;
    else if (this.full) this.more = true;
    else this.found.push({ file, name });
  }
}

/** As people order names: 2 before 10. */
function sorted(basket: Basket): Gathered {
  const order = new Intl.Collator(undefined, { numeric: true });
  basket.found.sort((one, other) => order.compare(one.name, other.name));
  return basket;
}

/** Chosen by an input; of a folder each with its path. */
export function chosen(files: Iterable<File>): Gathered {
  const basket = new Basket();
  for (const file of files) basket.put(file, file.webkitRelativePath || file.name);
  return sorted(basket);
}

/** Dropped. What was dropped is only known while the event is handled: call this at once. */
export async function dropped(transfer: DataTransfer): Promise<Gathered> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return chosen(transfer.files);
  const basket = new Basket();
  for (const entry of entries) await walk(entry, basket);
  return sorted(basket);
}

/** One after the other: a folder with a hundred thousand files is left when there are enough. */
async function walk(entry: FileSystemEntry, basket: Basket): Promise<void> {
  if (basket.full) {
    basket.more = true;
    return;
  }
  if (entry.isFile) {
    const file = await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail)).catch(() => null);
    if (file) basket.put(file, entry.fullPath);
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // Browsers hand out a folder a hundred entries at a time.
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail)).catch(() => []);
    if (!some.length) return;
    for (const one of some) await walk(one, basket);
  }
}
