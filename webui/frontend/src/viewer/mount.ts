/** The viewer on a page: loads the images, builds the stage with its bar, and takes it all away again. */

import { announce } from "../live";
import { language, t } from "../words";
import { bar, help, make } from "./bar";
import { commandsOf, wireKeys } from "./commands";
import { wireDivider, wireGestures } from "./gestures";
import type { Name } from "./pane";
import { gradeWords } from "./grades";
import { type Origin, type Picture, pictureOf } from "./pixels";
import { fitsTexture, start, useProcessor } from "./rendering";
import { Stage } from "./stage";

/** What the page says of its images. */
export interface Plan {
  source: Origin | null;
  result: Origin | null;
  scale: number;
  /** Why there is less to see than there might be. */
  note: string;
}

export interface Mounted {
  destroy(): void;
}

/** Show the images of `plan` in `root`. Raises where none of them can be shown; the page stays as it was. */
export async function mount(root: HTMLElement, plan: Plan, signal: AbortSignal): Promise<Mounted> {
  let processor = await start();
  const [source, result] = await Promise.all([load(plan.source), load(plan.result)]);
  signal.throwIfAborted();
  const seen = [source, result].filter((one): one is Picture => one !== null);
  if (plan.result ? !result : !source) throw new Error("the image cannot be shown");
  if (!processor && !seen.every(({ header }) => fitsTexture(Math.max(header.rows, header.columns)))) {
    useProcessor();
    processor = true;
  }
  const stage = new Stage({ source, result, scale: plan.scale, processor });
  const stop = new AbortController();
  const status = make("p", { class: "viewer-status small" });
  const box = make("div", { class: "viewer-box", tabindex: "0", role: "group", "data-renderer": processor ? "cpu" : "gpu" });
  box.setAttribute("aria-label", t("Viewer; press the question mark for its keys"));

  const commands = commandsOf(stage, {
    help: () => dialog.showModal(),
    full: () => void full(root),
    subtract: () => {
      announce(t("The difference is being computed."));
      box.setAttribute("aria-busy", "true");
      stage
        .subtract()
        .catch(() => announce(t("The difference could not be computed.")))
        .finally(() => box.removeAttribute("aria-busy"));
    },
  });
  const dialog = help(commands);
  const divider = make("button", {
    type: "button",
    class: "viewer-divider",
    role: "slider",
    "aria-label": t("Divider: original left, enhanced right"),
    "aria-valuemin": "0",
    "aria-valuemax": "100",
  });
  const note = noteOf(plan, source, result);
  box.append(bar(stage, commands), stage.element, scale(stage), status);
  if (note) box.append(make("p", { class: "viewer-note small", role: "note" }, note));
  box.append(dialog);
  root.append(box);

  const destroy = (): void => {
    stop.abort();
    stage.destroy();
    box.remove();
    delete root.dataset["mounted"];
  };
  try {
    root.dataset["mounted"] = "1"; // the stage has a size only while it is seen
    await stage.open();
    signal.throwIfAborted();
  } catch (error) {
    destroy();
    throw error;
  }
  if (stage.paired) stage.element.append(divider);
  wireDivider(stage, divider, stop.signal);
  wireKeys(box, commands, stop.signal);
  wireGestures(stage, stop.signal, tell(stage, status));
  stage.element.addEventListener("pointerdown", () => box.focus({ preventScroll: true }), { signal: stop.signal });
  stage.point("window");
  status.textContent = statusWords(stage, "");
  stage.onChange(() => {
    status.textContent = statusWords(stage, status.dataset["under"] ?? "");
  });
  box.dataset["ready"] = "1";
  return { destroy };
}

async function load(origin: Origin | null): Promise<Picture | null> {
  if (!origin) return null;
  try {
    return await pictureOf(origin);
  } catch (error) {
    if (!origin.preview || origin.preview === Object.values(origin)[0]) return null;
    console.info("viewer: the preview stands in for the image:", error instanceof Error ? error.message : error);
    return pictureOf({ preview: origin.preview }).catch(() => null);
  }
}

function noteOf(plan: Plan, source: Picture | null, result: Picture | null): string {
  if (source?.preview || result?.preview) {
    const which = source?.preview ? t("Of the original only the preview can be shown: 8 bits, reduced.") : t("Of the result only the preview can be shown: 8 bits, reduced.");
    return `${which} ${plan.note}`.trim();
  }
  if (plan.source && !source) return t("The original could not be shown.");
  return plan.note;
}

async function full(root: HTMLElement): Promise<void> {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await root.requestFullscreen?.().catch(() => undefined);
}

/** What stands under the pointer. */
function tell(stage: Stage, status: HTMLElement): (x: number, y: number) => void {
  const words: Record<Name, string> = { source: t("original"), result: t("result"), difference: t("difference") };
  const number = new Intl.NumberFormat(language);
  return (x, y) => {
    const under = stage.valuesAt(x, y).map(({ name, value }) => `${words[name]} ${number.format(value)}`);
    status.dataset["under"] = under.join(", ");
    status.textContent = statusWords(stage, under.join(", "));
  };
}

function statusWords(stage: Stage, under: string): string {
  return [gradeWords(stage.view.grade), t("Lengths in {unit}", { unit: stage.ruler }), under].filter(Boolean).join(" · ");
}

/** The difference map's scale, in grey levels. */
function scale(stage: Stage): HTMLElement {
  const [low, high] = [make("span", { "data-low": "" }), make("span", { "data-high": "" })];
  const all = make(
    "div",
    { class: "viewer-scale small", hidden: "" },
    make("span", { class: "words" }, t("Result minus enlarged original, in grey levels")),
    make("span", { class: "ramp" }, low, make("span", {}, "0"), high),
    make("span", { class: "soft" }, t("Darker: the result is lower there. Drag sideways on the map to change the scale.")),
  );
  const number = new Intl.NumberFormat(language, { signDisplay: "exceptZero" });
  stage.onChange(() => {
    all.hidden = stage.mode !== "difference" || stage.reach === null;
    low.textContent = number.format(-(stage.reach ?? 0));
    high.textContent = number.format(stage.reach ?? 0);
  });
  return all;
}
