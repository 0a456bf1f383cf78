// Words in the page's language. The page carries a table from English; what it lacks stays English.

const block = document.querySelector("#words");
const table: Record<string, string> = block?.textContent ? JSON.parse(block.textContent) : {};

/** `t("{count} files chosen", { count: 3 })`: the words in the page's language, with the values put in. */
export function t(words: string, values: Record<string, string | number> = {}): string {
  return (table[words] ?? words).replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The page's language, for dates and numbers. */
export const language = document.documentElement.lang || "en";
