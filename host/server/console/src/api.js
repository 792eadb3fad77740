// The client of the public API. The key stays in this tab and is sent only in the Authorization header.

import { signal } from "@preact/signals";

const STORED = "bellwether.key";
const LIMIT_MS = 20_000;
const PAGE = 200;
const MOST_PAGES = 10;

/** The API key, or `null` while nobody is signed in. */
export const key = signal(sessionStorage.getItem(STORED));
/** Why the user was signed out. */
export const signedOutBecause = signal(null);

/** An error answer, or a missing answer. */
export class ApiError extends Error {
  constructor(message, status = 0, problem = null) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}

export async function signIn(candidate) {
  const me = await request("/me", { key: candidate });
  sessionStorage.setItem(STORED, candidate);
  signedOutBecause.value = null;
  key.value = candidate;
  return me;
}

export function signOut(because = null) {
  sessionStorage.removeItem(STORED);
  signedOutBecause.value = because;
  key.value = null;
}

export const get = (path) => request(path);

/** Executes an action once, even if the browser sends the request again. */
export const post = (path, { version, body } = {}) =>
  request(path, {
    method: "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: {
      "Idempotency-Key": unique(),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(version === undefined ? {} : { "If-Match": `"${version}"` }),
    },
  });

/** Every item of a paginated list, up to a maximum. */
export async function all(path) {
  const items = [];
  let cursor = null;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const query = `limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`;
    const part = await get(`${path}${path.includes("?") ? "&" : "?"}${query}`);
    items.push(...part.items);
    cursor = part.next;
    if (!cursor) break;
  }
  return items;
}

/** Starts a streaming request. */
export async function open(path, { headers, signal: aborted }) {
  const response = await send(path, { headers, signal: aborted, cache: "no-store" }, key.value);
  if (!response.ok) throw await problem(response, key.value);
  return response.body;
}

async function request(path, { method = "GET", headers = {}, body, key: own = key.value } = {}) {
  const init = { method, headers, body, signal: AbortSignal.timeout(LIMIT_MS) };
  const response = await send(path, init, own);
  if (!response.ok) throw await problem(response, own);
  return response.status === 204 ? null : response.json();
}

async function send(path, init, own) {
  try {
    return await fetch(`/api/v1${path}`, { ...init, headers: { ...init.headers, Authorization: `Bearer ${own}` } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const slow = error.name === "TimeoutError";
    throw new ApiError(slow ? "The host did not answer in time. Check its log." : "The console can't reach the host. Check that `bellwether serve` is running.");
  }
}

async function problem(response, own) {
  const body = await response.json().catch(() => null);
  const refused = response.status === 401;
  if (refused && own === key.value) signOut("The host no longer accepts this API key. Sign in with a valid key.");
  const said = body?.detail ?? body?.title ?? `The host answered with status ${response.status}.`;
  return new ApiError(said, response.status, body);
}

// `crypto.randomUUID` is missing when the page comes over plain HTTP from another machine.
function unique() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
