/** One key each for a held result: R releases, X asks why and a number rejects, J goes on to the next. */

let decided = false;

function once(form: HTMLFormElement, button?: HTMLElement): void {
  if (decided) return;
  decided = true;
  form.requestSubmit(button);
}

function act(key: string): boolean {
  const sheet = document.querySelector<HTMLDetailsElement>("#reject");
  if (key === "r") {
    const form = document.querySelector<HTMLFormElement>("[data-key-form=r]");
    if (form) once(form);
    return form !== null;
  }
  if (key === "x" && sheet) {
    sheet.open = !sheet.open;
    (sheet.open ? sheet.querySelector("button") : sheet.querySelector("summary"))?.focus();
    return true;
  }
  if (key === "j") {
    document.querySelector<HTMLAnchorElement>("#later")?.click();
    return true;
  }
  if (sheet?.open && /^[1-9]$/.test(key)) {
    const button = sheet.querySelectorAll<HTMLButtonElement>("button[name=why]")[Number(key) - 1];
    const form = sheet.querySelector("form");
    if (button && form) once(form, button);
    return button !== undefined;
  }
  return false;
}

/** Before the viewer hears of them: its own R turns the image. */
export function wireReview(): void {
  if (document.body.dataset["review"] === undefined) return;
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat) return;
      if ((event.target as Element).closest("input, textarea, select")) return;
      if (!act(event.key.toLowerCase())) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );
  window.addEventListener("pageshow", () => (decided = false));
}
