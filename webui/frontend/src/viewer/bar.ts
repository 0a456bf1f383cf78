/** Tool bar, captions and the list of keys around the stage. */

import { language, t } from "../words";
import { type Command, GROUPS, keyWords } from "./commands";
import type { Stage } from "./stage";

const SVG = "http://www.w3.org/2000/svg";
let ids = 0;

/** `make("p", { class: "x" }, "words", child)` */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function bar(stage: Stage, commands: Command[]): HTMLElement {
  const all = make("div", { class: "viewer-bar", role: "toolbar", "aria-label": t("Viewer tools") });
  for (const [name, words] of Object.entries(GROUPS)) {
    const inside = commands.filter((one) => one.group === name && !one.quiet && one.can?.() !== false);
    if (!inside.length) continue;
    const group = make("div", { class: "group", role: "group", "aria-label": words });
    if (name === "window") group.append(presets(stage));
    const buttons = inside.map((command) => ({ command, button: button(command) }));
    for (const { command, button: made } of buttons) {
      if (command.name === "in") group.append(zoom(stage));
      group.append(made);
    }
    stage.onChange(() => {
      for (const { command, button: made } of buttons) if (command.on) made.setAttribute("aria-pressed", String(command.on()));
    });
    all.append(group);
  }
  return all;
}

function button(command: Command): HTMLButtonElement {
  const key = command.keys[0];
  const made = make("button", { type: "button", class: "small-button", "data-command": command.name });
  made.title = key ? `${command.words} (${keyWords(key)})` : command.words;
  if (command.icon) {
    made.setAttribute("aria-label", command.words);
    made.append(picture(command.icon));
  } else made.append(command.words);
  if (command.on) made.setAttribute("aria-pressed", String(command.on()));
  made.addEventListener("click", () => command.run());
  return made;
}

function picture(path: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 20 20", width: "18", height: "18", "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

function presets(stage: Stage): HTMLElement {
  const id = `viewer-preset-${++ids}`;
  const select = make("select", { id, "data-preset": "" });
  stage.grades.forEach((grade, i) => select.append(make("option", { value: String(i) }, grade.words)));
  const own = make("option", { value: "own", hidden: "" }, t("By hand"));
  select.append(own);
  select.addEventListener("change", () => {
    const grade = stage.grades[Number(select.value)];
    if (grade) stage.grade(grade);
  });
  stage.onChange(() => {
    const at = stage.grades.indexOf(stage.view.grade);
    select.value = at < 0 ? "own" : String(at);
  });
  return make("span", { class: "preset" }, make("label", { for: id, class: "visually-hidden" }, t("Window")), select);
}

function zoom(stage: Stage): HTMLElement {
  const shown = make("output", { "data-zoom": "", "aria-label": t("Zoom") });
  const number = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
  stage.onChange(() => (shown.textContent = number.format(stage.zoom)));
  return shown;
}

export function help(commands: Command[]): HTMLDialogElement {
  const id = `viewer-keys-${++ids}`;
  const dialog = make("dialog", { class: "viewer-help", "aria-labelledby": id }, make("h2", { id }, t("Keys of the viewer")));
  dialog.append(
    make("p", { class: "soft small" }, t("They count while the focus is in the viewer: click on an image or reach it by Tab. Wheel or two fingers zoom, the middle button moves, the right one zooms, a double click changes between fit and 100 %.")),
  );
  const columns = make("div", { class: "keys" });
  for (const [name, words] of Object.entries(GROUPS)) {
    const inside = commands.filter((one) => one.group === name && one.keys.length && one.can?.() !== false);
    if (!inside.length) continue;
    const list = make("dl");
    for (const command of inside) {
      const keys = command.keys.flatMap((key, i) => [...(i ? [" "] : []), make("kbd", {}, keyWords(key))]);
      list.append(make("div", {}, make("dt", {}, command.words), make("dd", {}, ...keys)));
    }
    columns.append(make("section", {}, make("h3", {}, words), list));
  }
  const close = make("button", { type: "button" }, t("Close"));
  close.addEventListener("click", () => dialog.close());
  dialog.append(columns, make("div", { class: "actions" }, close));
  return dialog;
}
