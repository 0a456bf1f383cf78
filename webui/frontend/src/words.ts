// Words in the page's language. The page carries a table from English; what it lacks stays English.

const block = document.querySelector("#words");
const table: Record<string, string> = block?.textContent ? JSON.parse(block.textContent) : {};

/** `t("{count} files chosen", { count: 3 })`: the words in the page's language, with the values put in. */
export function t(words: string, values: Record<string, string | number> = {}): string {
  return (table[words] ?? words).replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The page's language. */
export const language = document.documentElement.lang || "en";

/** How dates and numbers are written: as in the browser's own country where that speaks the page's language. */
export const locale = navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language;

const STATES: Record<string, string> = {
  queued: t("queued"),
  running: t("running"),
  held: t("held"),
  delivering: t("delivering"),
  done: t("done"),
  failed: t("failed"),
  skipped: t("skipped"),
  cancelled: t("cancelled"),
  retracted: t("retracted"),
};

/** The word for a job's state. */
export function spoken(state: string): string {
  return STATES[state] ?? state;
}
