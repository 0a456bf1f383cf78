/** Everything that can be done, once: the tool bar, the keys and the list of keys are made from this table. */

import { t } from "../words";
import { moved } from "./view";
import type { Mode, Pointer, Stage } from "./stage";

export interface Command {
  name: string;
  words: string;
  group: "compare" | "pointer" | "window" | "zoom" | "turn" | "marks" | "more";
  /** Keys as `KeyboardEvent.key` tells them, letters small; "Shift+" in front where it counts. */
  keys: string[];
  run: () => void;
  /** Whether it is on, for those that are on or off. */
  on?: () => boolean;
  /** Whether it can be done with these images. */
  can?: () => boolean;
  /** Keys only: no button. */
  quiet?: boolean;
  /** Path of a picture for the button, drawn in 20 by 20; words where there is none. */
  icon?: string;
}

export const GROUPS: Record<Command["group"], string> = {
  compare: t("Compare"),
  pointer: t("Pointer"),
  window: t("Window"),
  zoom: t("Zoom"),
  turn: t("Turn"),
  marks: t("Marks"),
  more: t("More"),
};

const PAN = 60;
const STEP = 1.25;

const ICONS = {
  window: "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14zM10 3v14M10 5a5 5 0 0 1 0 10z",
  pan: "M10 2v16M2 10h16M10 2l-2 2.5M10 2l2 2.5M10 18l-2-2.5M10 18l2-2.5M2 10l2.5-2M2 10l2.5 2M18 10l-2.5-2M18 10l-2.5 2",
  zoom: "M8.5 3a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11zM12.5 12.5L17 17M6 8.5h5M8.5 6v5",
  magnify: "M8.5 3a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11zM12.5 12.5L17 17",
  ruler: "M3 13L13 3l4 4L7 17zM6 10l1.5 1.5M8.5 7.5L11 10M11 5l1.5 1.5",
  angle: "M17 16H3L14 4M9.5 16a6 6 0 0 0-2.2-4.7",
  rectangle: "M3 5h14v10H3z",
  invert: "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14zM10 3a7 7 0 0 1 0 14z",
  left: "M4 4v4h4M4.5 8a6.5 6.5 0 1 1-1 4",
  right: "M16 4v4h-4M15.5 8a6.5 6.5 0 1 0 1 4",
  flipAcross: "M10 2v16M8 5L2 15h6zM12 5l6 10h-6z",
  flipDown: "M2 10h16M5 8L15 2v6zM5 12l10 6v-6z",
  clear: "M4 6h12M8 6V4h4v2M6 6l1 11h6l1-11M9 9v5M11 9v5",
  help: "M7 7.5a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M10 15.6v.2",
  reset: "M4 9a6 6 0 1 1 1.5 5M4 4v5h5",
  full: "M3 8V3h5M12 3h5v5M17 12v5h-5M8 17H3v-5",
};

export function commandsOf(stage: Stage, more: { help: () => void; full: () => void; subtract: () => void }): Command[] {
  const mode = (name: Mode, words: string, keys: string[], can: () => boolean, run = () => stage.choose(name)): Command => ({
    name,
    words,
    group: "compare",
    keys,
    run,
    can,
    on: () => stage.mode === name,
  });
  const pointer = (name: Pointer, words: string, keys: string[]): Command => ({
    name,
    words,
    group: "pointer",
    keys,
    run: () => stage.point(name),
    on: () => stage.pointer === name,
    icon: ICONS[name],
  });
  const paired = (): boolean => stage.paired;
  const window_ = (middle: number, width: number): (() => void) => () => {
    const { lower, upper } = stage.view.grade;
    const wide = upper - lower;
    stage.grade(moved(stage.view.grade, (lower + upper) / 2 + middle * wide, wide * width, 1));
  };
  return [
    mode("beside", t("Side by side"), ["b"], paired),
    mode("swipe", t("Swipe"), ["s"], paired),
    mode("flicker", t("Flicker"), [" ", "t"], paired, () => stage.flicker()),
    mode("difference", t("Difference"), ["d"], () => stage.subtractable, more.subtract),
    quiet("compare", "divide-left", t("Divider to the left"), ["["], () => stage.split(stage.divide - 5), paired),
    quiet("compare", "divide-right", t("Divider to the right"), ["]"], () => stage.split(stage.divide + 5), paired),

    pointer("window", t("Window"), ["w"]),
    pointer("pan", t("Pan"), ["p"]),
    pointer("zoom", t("Zoom"), ["z"]),
    pointer("magnify", t("Magnifier"), ["m"]),
    pointer("ruler", t("Ruler"), ["l"]),
    pointer("angle", t("Angle"), ["a"]),
    pointer("rectangle", t("Rectangle"), ["e"]),

    { name: "invert", words: t("Invert"), group: "window", keys: ["i"], run: () => stage.invert(), on: () => stage.view.invert, icon: ICONS.invert },
    ...stage.grades.slice(0, 9).map((grade, i): Command => quiet("window", `preset-${i + 1}`, grade.words, [String(i + 1)], () => stage.grade(grade))),
    quiet("window", "brighter", t("Brighter"), ["Shift+ArrowUp"], window_(-0.05, 1)),
    quiet("window", "darker", t("Darker"), ["Shift+ArrowDown"], window_(0.05, 1)),
    quiet("window", "narrower", t("Narrower window"), ["Shift+ArrowLeft"], window_(0, 1 / 1.1)),
    quiet("window", "wider", t("Wider window"), ["Shift+ArrowRight"], window_(0, 1.1)),

    { name: "out", words: t("Zoom out"), group: "zoom", keys: ["-"], run: () => stage.zoomBy(1 / STEP), icon: "M4 10h12" },
    { name: "in", words: t("Zoom in"), group: "zoom", keys: ["+", "="], run: () => stage.zoomBy(STEP), icon: "M4 10h12M10 4v12" },
    { name: "fit", words: t("Fit"), group: "zoom", keys: ["f"], run: () => stage.fit() },
    { name: "full-size", words: t("100 %"), group: "zoom", keys: ["o"], run: () => stage.fullSize() },
    quiet("zoom", "pan-left", t("Move left"), ["ArrowLeft"], () => stage.panBy(PAN, 0)),
    quiet("zoom", "pan-right", t("Move right"), ["ArrowRight"], () => stage.panBy(-PAN, 0)),
    quiet("zoom", "pan-up", t("Move up"), ["ArrowUp"], () => stage.panBy(0, PAN)),
    quiet("zoom", "pan-down", t("Move down"), ["ArrowDown"], () => stage.panBy(0, -PAN)),
    { ...quiet("zoom", "pixels", t("Show single pixels"), ["n"], () => stage.setSharp(!stage.sharp)), on: () => stage.sharp },

    { name: "right", words: t("Rotate right"), group: "turn", keys: ["r"], run: () => stage.turnBy(90), icon: ICONS.right },
    { name: "left", words: t("Rotate left"), group: "turn", keys: ["Shift+r"], run: () => stage.turnBy(-90), icon: ICONS.left },
    { name: "flip-across", words: t("Flip left and right"), group: "turn", keys: ["h"], run: () => stage.flip(true), icon: ICONS.flipAcross },
    { name: "flip-down", words: t("Flip above and below"), group: "turn", keys: ["v"], run: () => stage.flip(false), icon: ICONS.flipDown },

    quiet("marks", "remove", t("Remove the last mark"), ["Delete", "Backspace"], () => void stage.marks.remove(false)),
    { name: "clear", words: t("Clear marks"), group: "marks", keys: ["Shift+Delete"], run: () => void stage.marks.remove(true), icon: ICONS.clear },

    { name: "reset", words: t("Reset"), group: "more", keys: ["0"], run: () => (stage.point("window"), stage.reset()), icon: ICONS.reset },
    { name: "full", words: t("Full screen"), group: "more", keys: ["g"], run: more.full, icon: ICONS.full },
    { name: "help", words: t("Keys"), group: "more", keys: ["?"], run: more.help, icon: ICONS.help },
  ];
}

function quiet(group: Command["group"], name: string, words: string, keys: string[], run: () => void, can?: () => boolean): Command {
  return { name, words, group, keys, run, quiet: true, ...(can ? { can } : {}) };
}

/** A key as people call it. */
export function keyWords(key: string): string {
  const names: Record<string, string> = {
    " ": t("Space"),
    ArrowLeft: "←",
    ArrowRight: "→",
    ArrowUp: "↑",
    ArrowDown: "↓",
    Delete: t("Del"),
    Backspace: "⌫",
  };
  return key
    .split(/(?<=Shift)\+/)
    .map((part) => (part === "Shift" ? t("Shift") : (names[part] ?? part.toUpperCase())))
    .join(" + ");
}

/** Run what the key stands for; only while the focus is in the viewer, and not in a field or on a button. */
export function wireKeys(root: HTMLElement, commands: Command[], signal: AbortSignal): void {
  const table = new Map(commands.flatMap((command) => command.keys.map((key) => [key, command] as const)));
  root.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      if (target.closest("input, select, textarea, dialog")) return;
      if (target.closest("button, a") && [" ", "Enter"].includes(event.key)) return;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const command = (event.shiftKey ? table.get(`Shift+${key}`) : undefined) ?? (event.shiftKey && /^[a-z]$|^Arrow/.test(key) ? undefined : table.get(key));
      if (!command || command.can?.() === false) return;
      event.preventDefault();
      command.run();
    },
    { signal },
  );
}
