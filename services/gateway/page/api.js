// The RPCs of the gateway as Connect JSON: one function for a call, one for a stream from the server, one kind of error.

import { token } from "./session.js";

const PACKAGE = "/langptune.v1.";
const WEEK = 7 * 86_400_000; // milliseconds; the longest that a job is watched

export class RpcError extends Error {
  constructor(code, message, metadata) {
    super(message);
    this.code = code; // "aborted", "not_found", ...
    this.metadata = metadata; // of the ErrorInfo: field, etag, ...
  }
}

/** Call `service`/`method`; resolves with the response message. Raises RpcError. `signal` calls it off. */
export async function call(service, method, request = {}, { timeout = 30_000, signal } = {}) {
  const response = await post(service, method, "application/json", JSON.stringify(request), timeout, signal);
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text || "{}");
  } catch {
    throw new RpcError("unavailable", `The server answered ${response.status} without saying why.`, {});
  }
  if (!response.ok) throw rpcError(body);
  return body;
}

/** The messages of a stream, as they come. */
export async function* stream(service, method, request, { signal } = {}) {
  const body = envelope(JSON.stringify(request));
  const response = await post(service, method, "application/connect+json", body, WEEK, signal);
  if (!response.ok) throw rpcError(await response.json());
  for await (const [flags, message] of envelopes(response.body.getReader())) {
    if (!(flags & 2)) yield message;
    else if (message.error) throw rpcError(message);
  }
}

async function post(service, method, type, body, timeout, signal) {
  const deadline = AbortSignal.timeout(timeout);
  const headers = { "Content-Type": type, "Connect-Protocol-Version": "1", "Connect-Timeout-Ms": String(timeout) };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  try {
    return await fetch(`${PACKAGE}${service}/${method}`, {
      method: "POST",
      credentials: "omit",
      headers,
      body,
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
  } catch (problem) {
    if (signal?.aborted) throw problem;
    throw new RpcError("unavailable", deadline.aborted ? "The server took too long." : "The server cannot be reached.", {});
  }
}

function rpcError(body) {
  const error = body.error ?? body;
  const info = (error.details ?? []).find((detail) => detail.type === "google.rpc.ErrorInfo");
  const metadata = info ? metadataOf(info.value) : {};
  if (error.code === "unauthenticated")
    document.dispatchEvent(new CustomEvent("unauthenticated", { detail: sentence(error, metadata) }));
  return new RpcError(error.code ?? "unknown", sentence(error, metadata), metadata);
}

/** What the server says, as a sentence. */
function sentence({ code, message = "" }, metadata) {
  if (code === "resource_exhausted" && metadata.retry_after)
    return `Too much at once. Try again in ${Math.ceil(metadata.retry_after)} s.`;
  if (!message) return "Something went wrong on the server.";
  return message[0].toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}

/** The metadata map (field 3) of a google.rpc.ErrorInfo in base64: [key (1), value (2)] pairs, all strings. */
function metadataOf(base64) {
  const metadata = {};
  for (const [field, entry] of fieldsOf(Uint8Array.from(atob(base64), (each) => each.charCodeAt(0)))) {
    if (field !== 3) continue;
    const pair = Object.fromEntries(fieldsOf(entry));
    metadata[new TextDecoder().decode(pair[1])] = new TextDecoder().decode(pair[2] ?? new Uint8Array());
  }
  return metadata;
}

/** [number, bytes] of each length-delimited field; this message has no others. */
function fieldsOf(bytes) {
  const fields = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const number = varint() >> 3;
    const length = varint();
    fields.push([number, bytes.subarray(at, (at += length))]);
  }
  return fields;
}

function envelope(text) {
  const payload = new TextEncoder().encode(text);
  const framed = new Uint8Array(5 + payload.length);
  new DataView(framed.buffer).setUint32(1, payload.length);
  framed.set(payload, 5);
  return framed;
}

async function* envelopes(reader) {
  let held = new Uint8Array();
  for (;;) {
    while (held.length >= 5) {
      const length = new DataView(held.buffer, held.byteOffset).getUint32(1);
      if (held.length < 5 + length) break;
      yield [held[0], JSON.parse(new TextDecoder().decode(held.subarray(5, 5 + length)))];
      held = held.slice(5 + length);
    }
    const { value, done } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
  }
}
