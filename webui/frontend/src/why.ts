/**
 * The question of the dashboard, answered in place. It is posted, since it holds patient data; the entry of the
 * browser's history remembers it, so that it stands there again on return from a job.
 */

import { csrfToken } from "./api";
import { fieldsOf, showSearch } from "./live";

export function wireWhy(form: HTMLFormElement): void {
  const field = form.elements.namedItem("q") as HTMLInputElement;
  const ask = async (): Promise<void> => {
    form.setAttribute("aria-busy", "true");
    history.replaceState(field.value ? { why: field.value } : null, "");
    const fields = fieldsOf(form);
    fields.set("csrf_token", csrfToken());
    const shown = await showSearch(fields);
    form.removeAttribute("aria-busy");
    if (!shown) form.submit();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void ask();
  });
  const earlier = (history.state as { why?: unknown } | null)?.why;
  if (typeof earlier !== "string" || document.querySelector("#asked")) return;
  field.value = earlier;
  void ask();
}
