// What the page asks of the server, over the same API as any other client.

import { parse } from "./answers.js";

const STATUS = { unauthorized: 401, missing: 404, often: 429, busy: 503 };
// The token is kept here alone, and forgotten with the page.
let token = "";

/** An answer that is none; the message is a sentence for people. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  get wantsToken() {
    return this.status === STATUS.unauthorized;
  }

  get isMissing() {
    return this.status === STATUS.missing;
  }
}

export const setToken = (value) => {
  token = value;
};

async function send(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const method = body === undefined ? "GET" : "POST";
  let response;
  try {
    response = await fetch(path, { method, headers, body, cache: "no-store" });
  } catch {
    throw new Refusal(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new Refusal(response.status, await said(response));
  return response;
}

async function said(response) {
  if (response.status === STATUS.unauthorized && token) {
    return "The server does not know this token.";
  }
  const text = await response.text();
  try {
    return String(JSON.parse(text).error);
  } catch {
    return `The server answered with the status ${response.status}.`;
  }
}

const number = ({ model_spec }) => String(model_spec.version);

/** Gives name, version, signatures, certificate and page of the newest version. */
export async function describe() {
  const document = parse(await (await send("page/model.json")).text());
  return {
    name: document.model_spec.name,
    version: number(document),
    signatures: document.metadata.signature_def.signature_def,
    certificate: document.metadata.certificate,
    page: document.page ?? {},
  };
}

/** Gives the path at which a version of a model answers. */
export const pathOf = ({ name, version }) =>
  `v1/models/${encodeURIComponent(name)}/versions/${version}:predict`;

/** Asks the version of which the page was made. */
export async function predict(model, body) {
  return parse(await (await send(pathOf(model), body)).text());
}

/** Gives the address of a picture. Its request needs the token, if there is one. */
export async function pictureOf(model, file) {
  const response = await send(`page/${model.version}/${encodeURIComponent(file)}`);
  return URL.createObjectURL(await response.blob());
}

/** Gives the command that asks the same. */
export function command(model, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const address = new URL(pathOf(model), document.baseURI);
  return `curl${header} -d ${quoted(body)} ${quoted(String(address))}`;
}
