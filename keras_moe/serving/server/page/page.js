// A form made from the signatures of the model that this server serves.

import { outputsOf, showOutputs, showWhole } from "./answers.js";
import { byId, element } from "./elements.js";
import { Field, WrongInput } from "./fields.js";
import * as server from "./server.js";

// TensorFlow's own entry, which nobody can ask.
const INIT = "__saved_model_init_op";
const RETRY_MILLISECONDS = 2000;

let model = null;
let fields = [];
let isAsking = false;
// What people have typed, by the name of the input: versions come and go.
const typed = new Map();

function say(problem) {
  byId("problem").textContent = problem;
}

function namesOf(made) {
  if (made.page.signatures) return made.page.signatures;
  const names = Object.keys(made.signatures).filter((name) => name !== INIT);
  const first = (name) => name === "serving_default";
  return names.sort((a, b) => first(b) - first(a) || (a < b ? -1 : 1));
}

function chosen() {
  const name = byId("signature").value;
  return [name, model.signatures[name]];
}

/** Makes the form of the signature that is chosen. */
function showFields() {
  for (const field of fields) typed.set(field.name, field.value);
  const [, signature] = chosen();
  const words = model.page.inputs ?? {};
  fields = Object.keys(signature.inputs)
    .sort(byOrder(words))
    .map((name, number) => {
      const isOptional = name in (signature.defaults ?? {});
      const field = new Field(name, signature.inputs[name], words[name] ?? {}, number, isOptional);
      if (typed.has(name)) field.value = typed.get(name);
      return field;
    });
  // Whoever is about to type must not be thrown out of the field.
  const focused = fields.findIndex(({ control }) => control.id === document.activeElement.id);
  byId("fields").replaceChildren(...fields.map((field) => field.element));
  fields[focused]?.control.focus();
}

const byOrder = (words) => {
  const order = Object.keys(words);
  const at = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  return (a, b) => at(a) - at(b) || (a < b ? -1 : 1);
};

/** Makes the page of a version. */
function show(made) {
  const before = model && chosen()[0];
  model = made;
  const { page, name } = model;
  document.title = page.title ?? name;
  byId("title").textContent = page.title ?? name;
  byId("description").textContent = page.description ?? "";
  byId("description").hidden = !page.description;
  const names = namesOf(model);
  const select = byId("signature");
  select.replaceChildren(...names.map((each) => element("option", { value: each, text: each })));
  if (names.includes(before)) select.value = before;
  byId("choice").hidden = names.length < 2;
  byId("form").hidden = !names.length;
  if (!names.length) say("This model has no signature to ask.");
  else showFields();
  byId("about").replaceChildren(...about());
  showPictures();
}

function about() {
  const lines = [`${model.name}, version ${model.version}, served by keras_moe.`];
  const { certificate } = model;
  if (certificate) {
    lines.push(
      `Certified: ${certificate.bounds} at most ${certificate.tolerance}, ` +
        `with a confidence of ${certificate.confidence_level}.`,
    );
  }
  return lines.map((text) => element("p", { text }));
}

async function showPictures() {
  const shown = model;
  const figures = await Promise.all((model.page.pictures ?? []).map((each) => figureOf(shown, each)));
  // Another version may have come meanwhile.
  if (model === shown) byId("pictures").replaceChildren(...figures.filter(Boolean));
}

async function figureOf(made, { file, title, alt }) {
  try {
    const src = await server.pictureOf(made, file);
    const caption = title ? element("figcaption", { text: title }) : null;
    return element("figure", {}, caption, element("img", { src, alt }));
  } catch {
    return null; // the page is of use without it
  }
}

/** Looks for a newer version; gives whether the page shows what is served. */
async function refresh() {
  try {
    const made = await server.describe();
    byId("token-form").hidden = true;
    const isSame = model && made.version === model.version && made.name === model.name;
    if (!isSame) show(made);
    return true;
  } catch (error) {
    if (!(error instanceof server.Refusal)) throw error;
    say(error.message);
    if (error.wantsToken) wantToken();
    else if (!model) setTimeout(start, RETRY_MILLISECONDS);
    return false;
  }
}

function wantToken() {
  byId("token-form").hidden = false;
  byId("form").hidden = true;
  byId("token").focus();
}

async function start() {
  if (await refresh()) say("");
}

/** Gives the JSON of a request; moves to the first field that is wrong. */
function bodyOf() {
  const [name] = chosen();
  const wrong = [];
  const parts = [];
  for (const field of fields) {
    try {
      const json = field.json();
      if (json !== null) parts.push(`${JSON.stringify(field.name)}: ${json}`);
    } catch (error) {
      if (!(error instanceof WrongInput)) throw error;
      wrong.push(error);
    }
  }
  if (wrong.length) {
    wrong[0].field.control.focus();
    return null;
  }
  return `{"signature_name": ${JSON.stringify(name)}, "inputs": {${parts.join(", ")}}}`;
}

async function ask() {
  say("");
  if (!(await refresh())) return;
  const body = bodyOf();
  if (body === null) return;
  const [, signature] = chosen();
  const asked = model;
  const began = performance.now();
  try {
    const answer = await server.predict(asked, body);
    const milliseconds = Math.round(performance.now() - began);
    showAnswer(answer, asked, signature, body, milliseconds);
  } catch (error) {
    if (!(error instanceof server.Refusal)) throw error;
    byId("answer").replaceChildren();
    say(error.message);
  }
}

function showAnswer(answer, asked, signature, body, milliseconds) {
  const outputs = outputsOf(answer, signature);
  byId("answer").replaceChildren(
    element(
      "div",
      { class: "card" },
      ...showOutputs(outputs, signature, asked.page.outputs ?? {}),
      element("p", { class: "fact", text: `Version ${asked.version}, ${milliseconds} ms` }),
      showWhole(outputs),
      element(
        "details",
        {},
        element("summary", { text: "The same from a shell" }),
        element("pre", { tabindex: "0", text: server.command(asked, body) }),
      ),
    ),
  );
}

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isAsking) return;
  isAsking = true;
  byId("ask").setAttribute("aria-disabled", "true");
  byId("answer").setAttribute("aria-busy", "true");
  try {
    await ask();
  } catch (error) {
    say(`The answer cannot be shown: ${error.message}`);
  } finally {
    isAsking = false;
    byId("ask").removeAttribute("aria-disabled");
    byId("answer").removeAttribute("aria-busy");
  }
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  server.setToken(byId("token").value.trim());
  byId("token").value = "";
  start();
});
byId("signature").addEventListener("change", () => {
  showFields();
  byId("answer").replaceChildren();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && model && !isAsking) refresh();
});
start();
