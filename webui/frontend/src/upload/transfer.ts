/** One file on its way: its progress, and what is tried again by itself when the network or the server fails. */

import { csrfToken, Problem, problemOf } from "../api";

export interface Made {
  readonly id: number;
  readonly state: string;
  readonly resend: boolean;
}

export interface Taken {
  readonly jobs: readonly Made[];
  /** Of an archive's files some may be refused. */
  readonly refused: readonly { readonly file: string; readonly detail: string }[];
  readonly batch: number | null;
}

export interface Watcher {
  /** Part of the bytes that has left, 0 to 1. */
  progress(part: number): void;
  /** It failed and is tried again in so many seconds. */
  waits(seconds: number): void;
}

/** It was stopped by the person. */
export class Stopped extends Error {}

/** Waits before the next attempt, in seconds; after the last the person decides. */
const WAITS = [1, 2, 4, 8, 15];
const LONGEST_WAIT = 30;
/** What a proxy or a server that restarts says, or nothing at all: the answer may be lost, the file taken. */
const PASSES = new Set([0, 429, 502, 503, 504]);
/** Reasons to wait that a person should know of rather than a program. */
const STANDS = new Set(["queue-full", "intake-paused", "no-room"]);

/** A key for one thing to do: sent again under it, it is not done twice. */
export function newKey(): string {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Send a form with a file; resolves to what was taken, rejects with a Problem or Stopped. */
export async function send(body: FormData, key: string, watcher: Watcher, signal: AbortSignal): Promise<Taken> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once(body, key, watcher, signal);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { problem } = error;
      const passes = problem.kind === "key-busy" || (PASSES.has(problem.status) && !STANDS.has(problem.kind));
      const pause = WAITS[attempt];
      if (!passes || pause === undefined) throw problem;
      await wait(Math.min(LONGEST_WAIT, Math.max(pause, error.after)), watcher, signal);
    }
  }
}

/** A problem, and after how many seconds the server wants to be asked again. */
class Refusal extends Error {
  constructor(
    readonly problem: Problem,
    readonly after: number,
  ) {
    super(problem.message);
  }
}

function once(body: FormData, key: string, watcher: Watcher, signal: AbortSignal): Promise<Taken> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(new Stopped());
      return;
    }
    const request = new XMLHttpRequest();
    const stop = (): void => request.abort();
    signal.addEventListener("abort", stop);
    request.open("POST", "/api/v1/jobs");
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", csrfToken());
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) watcher.progress(event.loaded / event.total);
    };
    request.onloadend = () => {
      signal.removeEventListener("abort", stop);
      if (signal.aborted && request.status === 0) reject(new Stopped());
      else if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as Taken);
      else {
        const after = Number(request.getResponseHeader("Retry-After") ?? 0);
        reject(new Refusal(problemOf(request.status, request.responseText), Number.isFinite(after) ? after : 0));
      }
    };
    request.send(body);
  });
}

/** Wait, less long when the network comes back. */
function wait(seconds: number, watcher: Watcher, signal: AbortSignal): Promise<void> {
  watcher.waits(seconds);
  return new Promise((resolve, reject) => {
    const end = (): void => {
      window.clearTimeout(timer);
      window.removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(new Stopped());
      else resolve();
    };
    const timer = window.setTimeout(end, seconds * 1000 * (0.8 + 0.4 * Math.random()));
    window.addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}
