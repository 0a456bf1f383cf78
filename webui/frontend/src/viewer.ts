/** Before and after: both previews move as one, side by side or one over the other with a divider. */

const MAX_ZOOM = 32;
const STEP = 1.25;

interface View {
  zoom: number;
  /** Offset of the picture's corner, in widths and heights of a pane: the same for panes of any size. */
  x: number;
  y: number;
}

export function wireViewer(viewer: HTMLElement): void {
  const panes = viewer.querySelector<HTMLElement>("[data-panes]");
  const shown = viewer.querySelector<HTMLOutputElement>("[data-zoom]");
  if (!panes || viewer.dataset["wired"]) return;
  viewer.dataset["wired"] = "1";
  const each = [...panes.querySelectorAll<HTMLElement>(".frame")];
  const pictures = each.flatMap((pane) => [...pane.querySelectorAll<HTMLImageElement>("img")]);
  const view: View = { zoom: 1, x: 0, y: 0 };

  const draw = (): void => {
    const reach = 1 - view.zoom;
    view.x = Math.min(0, Math.max(reach, view.x));
    view.y = Math.min(0, Math.max(reach, view.y));
    for (const picture of pictures) {
      picture.style.transform = `translate(${view.x * 100}%, ${view.y * 100}%) scale(${view.zoom})`;
    }
    if (shown) shown.textContent = `${Math.round(view.zoom * 100)} %`;
  };

  /** Zoom by `factor`, keeping the point (px, py), in widths and heights of the pane, where it is. */
  const zoomAt = (factor: number, px = 0.5, py = 0.5): void => {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const real = zoom / view.zoom;
    view.x = px - (px - view.x) * real;
    view.y = py - (py - view.y) * real;
    view.zoom = zoom;
    draw();
  };

  const fit = (): void => {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    draw();
  };

  for (const pane of each) {
    const fingers = new Map<number, PointerEvent>();
    const where = (event: { clientX: number; clientY: number }): [number, number] => {
      const box = pane.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    pane.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        zoomAt(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 400)), ...where(event));
      },
      { passive: false },
    );
    pane.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pane.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      pane.classList.add("dragging");
    });
    pane.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
      const box = pane.getBoundingClientRect();
      if (other) {
        const spread = (finger: PointerEvent): number =>
          Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
        const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
        zoomAt(spread(event) / Math.max(1, spread(before)), ...where(middle));
      } else {
        view.x += (event.clientX - before.clientX) / box.width;
        view.y += (event.clientY - before.clientY) / box.height;
        draw();
      }
      fingers.set(event.pointerId, event);
    });
    for (const name of ["pointerup", "pointercancel"] as const) {
      pane.addEventListener(name, (event) => {
        fingers.delete(event.pointerId);
        if (!fingers.size) pane.classList.remove("dragging");
      });
    }
    pane.addEventListener("dblclick", (event) => (view.zoom > 1 ? fit() : zoomAt(4, ...where(event))));
    pane.addEventListener("dragstart", (event) => event.preventDefault());
  }

  const moves: Record<string, () => void> = {
    "+": () => zoomAt(STEP),
    "=": () => zoomAt(STEP),
    "-": () => zoomAt(1 / STEP),
    "0": fit,
    ArrowLeft: () => ((view.x += 0.1), draw()),
    ArrowRight: () => ((view.x -= 0.1), draw()),
    ArrowUp: () => ((view.y += 0.1), draw()),
    ArrowDown: () => ((view.y -= 0.1), draw()),
  };
  panes.tabIndex = 0;
  panes.addEventListener("keydown", (event) => {
    const move = event.target === panes && !event.ctrlKey && !event.metaKey ? moves[event.key] : undefined;
    if (!move) return;
    event.preventDefault();
    move();
  });

  for (const button of viewer.querySelectorAll<HTMLButtonElement>("[data-do]")) {
    button.addEventListener("click", () => {
      const task = button.dataset["do"];
      if (task === "in") zoomAt(STEP);
      if (task === "out") zoomAt(1 / STEP);
      if (task === "fit") fit();
      if (task === "beside" || task === "swipe") {
        panes.classList.toggle("swipe", task === "swipe");
        for (const other of viewer.querySelectorAll<HTMLButtonElement>('[data-do="beside"], [data-do="swipe"]')) {
          other.setAttribute("aria-pressed", String(other === button));
        }
      }
    });
  }
  const pixels = viewer.querySelector<HTMLInputElement>("[data-pixels]");
  pixels?.addEventListener("change", () => panes.classList.toggle("pixels", pixels.checked));
  const divider = viewer.querySelector<HTMLElement>("[data-divider]");
  if (divider) wireDivider(panes, divider);
  draw();
}

function wireDivider(panes: HTMLElement, divider: HTMLElement): void {
  let at = 50;
  const move = (percent: number): void => {
    at = Math.min(100, Math.max(0, percent));
    panes.style.setProperty("--divide", `${at}%`);
    divider.setAttribute("aria-valuenow", String(Math.round(at)));
  };
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = panes.getBoundingClientRect();
    move(((event.clientX - box.left) / box.width) * 100);
  });
  divider.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(at + by);
  });
  move(at);
}
