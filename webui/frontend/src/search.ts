/**
 * The search of the queue, in place. It is posted, since it holds patient data; a posted page cannot be come back
 * to, so the entry of the browser's history remembers the search and the page is filled again on return.
 */

import { csrfToken } from "./api";
import { fieldsOf, showSearch } from "./live";

interface Entry {
  readonly search: string;
}

const WISHES = ["q", "since", "until", "sort", "rule", "destination", "model", "priority", "origin"];

function remembered(): URLSearchParams | null {
  const state = history.state as Entry | null;
  return state && typeof state.search === "string" ? new URLSearchParams(state.search) : null;
}

export function wireSearch(form: HTMLFormElement): void {
  const show = async (fields: URLSearchParams): Promise<void> => {
    if (!fields.get("q")) {
      // Without patient data the page has an address of its own.
      const kept = new URLSearchParams();
      const state = fields.get("only") ?? fields.get("state");
      if (state) kept.set("state", state);
      for (const name of WISHES) {
        const value = fields.get(name);
        if (value) kept.set(name, value);
      }
      const query = kept.toString();
      location.assign(query ? `${location.pathname}?${query}` : location.pathname);
      return;
    }
    form.setAttribute("aria-busy", "true");
    const kept = new URLSearchParams(fields);
    kept.delete("csrf_token");
    history.replaceState({ search: kept.toString() } satisfies Entry, "", location.pathname);
    const shown = await showSearch(fields);
    form.removeAttribute("aria-busy");
    if (!shown) form.submit();
  };
  document.addEventListener("submit", (event) => {
    const asked = event.target;
    if (!(asked instanceof HTMLFormElement) || (asked !== form && asked.id !== "here")) return;
    event.preventDefault();
    void show(fieldsOf(asked, event.submitter));
  });
  // A link to this very address is a reload to the browser, which would bring the search back.
  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[href]");
    if (link?.href === location.href) history.replaceState(null, "");
  });
  const earlier = remembered();
  if (earlier === null) return;
  for (const name of WISHES) {
    const field = form.elements.namedItem(name);
    if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = earlier.get(name) ?? "";
  }
  earlier.set("csrf_token", csrfToken());
  void show(earlier);
}
