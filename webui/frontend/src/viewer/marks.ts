/** Measuring and pointing: ruler, angle and rectangle, as tools of Cornerstone's. */

import { eventTarget, type Types } from "@cornerstonejs/core";
import {
  addTool,
  AngleTool,
  annotation,
  Enums,
  init as initTools,
  LengthTool,
  RectangleROITool,
  ToolGroupManager,
  type Types as ToolTypes,
  utilities,
} from "@cornerstonejs/tools";

import { language, t } from "../words";
import type { Ruler } from "./header";

export type Mark = "ruler" | "angle" | "rectangle";

export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

interface Points {
  handles: { points: Types.Point3[] };
}

const NAMES: Record<Mark, string> = {
  ruler: LengthTool.toolName,
  angle: AngleTool.toolName,
  rectangle: RectangleROITool.toolName,
};
const { Events, MouseBindings } = Enums;
let counter = 0;
let begun = false;

function begin(): void {
  if (begun) return;
  begun = true;
  initTools();
  for (const tool of [LengthTool, AngleTool, RectangleROITool]) addTool(tool);
  const { style } = annotation.config;
  const given = style.getDefaultToolStyles();
  style.setDefaultToolStyles({
    ...given,
    global: {
      ...given.global,
      color: "rgb(255, 214, 120)",
      colorHighlighted: "rgb(255, 236, 190)",
      colorSelected: "rgb(255, 236, 190)",
      lineWidth: "2",
      textBoxFontSize: "15px",
      textBoxFontFamily: "inherit",
      textBoxColor: "rgb(255, 225, 150)",
      textBoxColorHighlighted: "rgb(255, 236, 190)",
      textBoxColorSelected: "rgb(255, 236, 190)",
      textBoxBackground: "rgb(0, 0, 0)",
      textBoxLinkLineWidth: "1",
    },
  });
}

/** What stands behind a length, so that nobody takes one for more than it is. */
export function unit(ruler: Ruler): string {
  switch (ruler) {
    case "calibrated":
      return t("mm");
    case "detector":
      return t("mm at the detector");
    case "film":
      return t("mm on the film");
    case "unstated":
      return t("mm, calibration not stated");
    default:
      return t("pixels of the original");
  }
}

export class Marks {
  private readonly group: ToolTypes.IToolGroup;
  private readonly id = `cxr-${++counter}`;
  private readonly viewports: string[] = [];
  private active: Mark | null = null;
  private readonly stop = new AbortController();

  constructor(
    private readonly engine: string,
    ruler: Ruler,
    private readonly told: (corners: Types.Point3[] | null) => void,
  ) {
    begin();
    const group = ToolGroupManager.createToolGroup(this.id);
    if (!group) throw new Error("no tool group");
    this.group = group;
    const number = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
    group.addTool(NAMES.ruler, {
      getTextLines: (data: Points) => [`${number.format(apart(data.handles.points))} ${unit(ruler)}`],
    });
    group.addTool(NAMES.angle, { getTextLines: (data: Points) => angleLines(data.handles.points, number) });
    group.addTool(NAMES.rectangle, { calculateStats: false, getTextLines: () => [] });
    this.choose(null);
    for (const name of [Events.ANNOTATION_COMPLETED, Events.ANNOTATION_MODIFIED]) {
      eventTarget.addEventListener(name, this.changed as EventListener);
      this.stop.signal.addEventListener("abort", () => eventTarget.removeEventListener(name, this.changed as EventListener));
    }
  }

  add(viewport: string): void {
    this.viewports.push(viewport);
    this.group.addViewport(viewport, this.engine);
  }

  /** Give the pointer to a tool; with null it is the viewer's own. */
  choose(mark: Mark | null): void {
    this.active = mark;
    for (const [which, name] of Object.entries(NAMES)) {
      if (which === mark) {
        this.group.setToolActive(name, { bindings: [{ mouseButton: MouseBindings.Primary }, { numTouchPoints: 1 }] });
      } else this.group.setToolEnabled(name);
    }
  }

  get chosen(): Mark | null {
    return this.active;
  }

  /** Remove the newest mark, or every one; false when there was none. */
  remove(every: boolean): boolean {
    const all = annotation.state.getAllAnnotations();
    const gone = every ? all : all.slice(-1);
    for (const one of gone) annotation.state.removeAnnotation(one.annotationUID as string);
    if (gone.some((one) => one.metadata?.toolName === NAMES.rectangle)) this.told(null);
    this.draw();
    return gone.length > 0;
  }

  draw(): void {
    utilities.triggerAnnotationRenderForViewportIds(this.viewports);
  }

  destroy(): void {
    this.stop.abort();
    this.remove(true);
    ToolGroupManager.destroyToolGroup(this.id);
  }

  private readonly changed = (event: CustomEvent<{ annotation?: ToolTypes.Annotation }>): void => {
    const one = event.detail.annotation;
    if (!one || one.metadata?.toolName !== NAMES.rectangle) return;
    for (const other of annotation.state.getAllAnnotations()) {
      if (other.metadata?.toolName === NAMES.rectangle && other.annotationUID !== one.annotationUID) {
        annotation.state.removeAnnotation(other.annotationUID as string);
      }
    }
    this.told((one.data as unknown as Points).handles.points);
  };
}

function apart(points: Types.Point3[]): number {
  const [a, b] = points;
  return a && b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
}

function angleLines(points: Types.Point3[], number: Intl.NumberFormat): string[] {
  const [a, b, c] = points;
  if (!a || !b || !c) return [];
  const one = Math.atan2(a[1] - b[1], a[0] - b[0]);
  const other = Math.atan2(c[1] - b[1], c[0] - b[0]);
  const between = Math.abs(((one - other) * 180) / Math.PI) % 360;
  return [`${number.format(between > 180 ? 360 - between : between)}°`];
}
