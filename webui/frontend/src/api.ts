/** Requests to our own REST interface: the session's token with each change, problems as errors. */

import { t } from "./words";

/** A refusal: RFC 9457's detail is a sentence for the person. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    detail: string,
  ) {
    super(detail);
  }
}

export const UNREACHABLE = t("The server cannot be reached. Check the connection and try again.");

export function csrfToken(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
}

/** The problem that an answer carries, whatever its body turns out to be. */
export function problemOf(status: number, body: string): Problem {
  if (status === 0) return new Problem(0, "unreachable", UNREACHABLE);
  let detail = "";
  let kind = "";
  try {
    const parsed = JSON.parse(body) as { detail?: unknown; title?: unknown; type?: unknown };
    if (typeof parsed.detail === "string") detail = parsed.detail;
    else if (typeof parsed.title === "string") detail = parsed.title;
    if (typeof parsed.type === "string") kind = parsed.type.split(":").pop() ?? "";
  } catch {
    // a proxy's page, not ours
  }
  if (status === 401) detail = t("The login has ended. Load the page again and log in.");
  return new Problem(status, kind, detail || t("The server answered {status}.", { status }));
}

/** Post JSON (or nothing); resolves to the parsed answer, rejects with a Problem. */
export async function post(path: string, body?: unknown): Promise<unknown> {
  const headers: Record<string, string> = { Accept: "application/json", "X-CSRF-Token": csrfToken() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw problemOf(0, "");
  }
  const text = await response.text();
  if (!response.ok) throw problemOf(response.status, text);
  return text ? (JSON.parse(text) as unknown) : null;
}
