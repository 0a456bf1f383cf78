/**
 * The images of a job. The page shows previews; where it has a stage, the viewer takes their place. Its code is
 * loaded on such pages alone, and the previews stay when it cannot be loaded or cannot show the images.
 */

import type { Mounted, Plan } from "./viewer/mount";

let shown: { plan: string; stop: AbortController; mounted: Mounted | null } | null = null;

/** Bring the viewer to what the page says now: mount it, leave it alone, change its images, take it away. */
export function wireViewer(): void {
  const plan = document.querySelector<HTMLElement>("[data-plan]")?.dataset["plan"] ?? "";
  const root = document.querySelector<HTMLElement>("[data-viewer]");
  if (shown && shown.plan === plan && root?.isConnected) return;
  if (shown) {
    shown.stop.abort();
    shown.mounted?.destroy();
    shown = null;
  }
  if (!plan || !root) return;
  const mine = { plan, stop: new AbortController(), mounted: null as Mounted | null };
  shown = mine;
  void open(root, mine);
}

async function open(root: HTMLElement, mine: NonNullable<typeof shown>): Promise<void> {
  try {
    const { mount } = await import("./viewer/mount");
    const mounted = await mount(root, JSON.parse(mine.plan) as Plan, mine.stop.signal);
    if (mine.stop.signal.aborted) mounted.destroy();
    else mine.mounted = mounted;
  } catch (error) {
    if (mine.stop.signal.aborted) return;
    console.info("viewer: the previews stay:", error instanceof Error ? error.message : error);
  }
}
