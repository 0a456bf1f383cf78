/** Rows narrowed as one types; without JavaScript the form asks the server. */

import { announce } from "./live";
import { t } from "./words";

export function wireFilter(input: HTMLInputElement): void {
  const name = input.dataset["filter"] ?? "";
  const list = document.getElementById(name);
  if (!list) return;
  const none = document.querySelector<HTMLElement>(`[data-filter-none="${name}"]`);
  const rows = [...list.querySelectorAll<HTMLElement>("[data-filter-row]")];
  const texts = new Map(rows.map((row) => [row, (row.textContent ?? "").toLowerCase()]));
  let saying = 0;

  const narrow = (): void => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => texts.get(row)?.includes(word));
      if (!row.hidden) shown += 1;
    }
    for (const group of list.querySelectorAll<HTMLElement>("[data-filter-group]")) {
      group.hidden = !group.querySelector("[data-filter-row]:not([hidden])");
    }
    if (none) none.hidden = shown > 0;
    window.clearTimeout(saying);
    saying = window.setTimeout(() => announce(t("{count} shown", { count: shown })), 600);
  };

  input.addEventListener("input", narrow);
  input.form?.addEventListener("submit", (event) => event.preventDefault());
}
