/** The event stream, once for all tabs: browsers allow few connections to a server, and each page wants one. */

export interface JobEvent {
  /** The job; null when too much was missed to tell: load anew. */
  readonly id: number | null;
  /** The state it came to; empty when something else happened. */
  readonly state: string;
}

export type Liveness = "live" | "lost";

type Message =
  | { kind: "event"; event: JobEvent }
  | { kind: "liveness"; liveness: Liveness }
  | { kind: "hello" }
  | { kind: "left" };

const URL_OF_EVENTS = "/api/v1/events";
const RETRY_MS = 5000;
const LONGEST_RETRY_MS = 60_000;

const listeners: ((event: JobEvent) => void)[] = [];
const watchers: ((liveness: Liveness) => void)[] = [];
const leavers: (() => void)[] = [];
/** Whether the login has ended in another window: a stream would be refused. */
let ended = false;

export function onEvent(listener: (event: JobEvent) => void): void {
  listeners.push(listener);
}

export function onLiveness(watcher: (liveness: Liveness) => void): void {
  watchers.push(watcher);
}

/** Call when someone logs out in another window of this browser. */
export function onLeft(leaver: () => void): void {
  leavers.push(leaver);
}

function deliver(message: Message): void {
  if (message.kind === "event") for (const listener of listeners) listener(message.event);
  else if (message.kind === "liveness") for (const watcher of watchers) watcher(message.liveness);
  else if (message.kind === "left") {
    ended = true;
    for (const leaver of leavers) leaver();
  }
}

/** The job and its new state from the data of one event; null for what cannot be read. */
export function parse(data: string): JobEvent | null {
  try {
    const found = JSON.parse(data) as { job_id?: unknown; kind?: unknown; after?: unknown };
    const id = Number(found.job_id);
    const state = found.kind === "state" && typeof found.after === "string" ? found.after : "";
    return Number.isInteger(id) ? { id, state } : null;
  } catch {
    return null;
  }
}

/** Listen until the page goes; `share` hands everything on to the other tabs. */
function listen(share: (message: Message) => void): () => Liveness {
  let liveness: Liveness = "lost";
  const tell = (next: Liveness): void => {
    liveness = next;
    const message: Message = { kind: "liveness", liveness: next };
    deliver(message);
    share(message);
  };
  const pass = (event: JobEvent | null): void => {
    if (event === null) return;
    const message: Message = { kind: "event", event };
    deliver(message);
    share(message);
  };
  let wait = RETRY_MS;
  const open = (): void => {
    if (ended) return;
    const source = new EventSource(URL_OF_EVENTS);
    source.onopen = () => {
      wait = RETRY_MS;
      tell("live");
    };
    source.addEventListener("job", (raw: MessageEvent<string>) => pass(parse(raw.data)));
    source.addEventListener("reset", () => pass({ id: null, state: "" }));
    source.onerror = () => {
      tell("lost");
      // Refused, as after logging out elsewhere: the browser does not try again by itself.
      if (source.readyState !== EventSource.CLOSED) return;
      window.setTimeout(open, wait);
      wait = Math.min(2 * wait, LONGEST_RETRY_MS);
    };
    onLeft(() => source.close());
    window.addEventListener("pagehide", () => source.close(), { once: true });
  };
  open();
  return () => liveness;
}

/** Start: the first tab opens the stream and tells the others, the next takes over when it closes. */
export function start(): void {
  if (!("locks" in navigator) || !("BroadcastChannel" in window)) {
    listen(() => undefined);
    return;
  }
  const channel = new BroadcastChannel("cxr-sr-events");
  let liveness: (() => Liveness) | null = null;
  channel.onmessage = (raw: MessageEvent<Message>) => {
    if (raw.data.kind === "hello") {
      if (liveness) channel.postMessage({ kind: "liveness", liveness: liveness() } satisfies Message);
    } else deliver(raw.data);
  };
  void navigator.locks.request("cxr-sr-events", () => {
    liveness = listen((message) => channel.postMessage(message));
    return new Promise<never>(() => undefined);
  });
  channel.postMessage({ kind: "hello" } satisfies Message);
  document.querySelector("form[data-log-out]")?.addEventListener("submit", () => {
    channel.postMessage({ kind: "left" } satisfies Message);
  });
}
