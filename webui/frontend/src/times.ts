/** <time> in the reader's own language and zone; the server writes UTC for readers without JavaScript. */

import { locale } from "./words";

const stamp = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const second = new Intl.DateTimeFormat(locale, { dateStyle: "short", timeStyle: "medium" });
const minute = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const weekday = new Intl.DateTimeFormat(locale, { weekday: "short" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });

function ago(moment: Date): string {
  const seconds = (moment.getTime() - Date.now()) / 1000;
  const size = Math.abs(seconds);
  if (size < 45) return relative.format(Math.round(seconds / 5) * 5 || 0, "second");
  if (size < 45 * 60) return relative.format(Math.round(seconds / 60), "minute");
  if (size < 20 * 3600) return relative.format(Math.round(seconds / 3600), "hour");
  return stamp.format(moment);
}

/** Write every <time> below `root` anew. */
export function localise(root: ParentNode = document): void {
  for (const element of root.querySelectorAll<HTMLTimeElement>("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const form = element.dataset["form"] ?? "stamp";
    if (form === "day") {
      element.textContent = day.format(moment);
      continue;
    }
    if (form === "hm" || form === "weekday") {
      element.textContent = (form === "hm" ? minute : weekday).format(moment);
      continue;
    }
    if (form === "second") {
      element.textContent = second.format(moment);
      continue;
    }
    element.textContent = form === "ago" ? ago(moment) : form === "clock" ? clock.format(moment) : stamp.format(moment);
    element.title = full.format(moment);
  }
}

/** Keep the relative ones true while the page stays open. */
export function keepTrue(): void {
  window.setInterval(() => {
    if (document.visibilityState === "visible") localise();
  }, 20_000);
}
