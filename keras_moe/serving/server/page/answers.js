// Shows what a model has answered.

import { paint } from "./colours.js";
import { element } from "./elements.js";
import { hasRows, shapeOf } from "./fields.js";

const MOST_ITEMS = 24;
const MOST_CHARACTERS = 20000;
// Outputs of integers by which early-exit models say where each token left.
const DEPTH = "exit_layer";
// Texts, bare words that are no JSON, and numbers.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?Infinity|NaN|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
// The greatest depth seen of an output, where nobody says how many there are.
const deepest = new Map();

/** Reads an answer: numbers that JSON or JavaScript cannot hold become text. */
export function parse(text) {
  return JSON.parse(
    text.replace(TOKENS, (token) =>
      /^-?(Infinity|NaN|\d{16,})$/.test(token) ? JSON.stringify(token) : token,
    ),
  );
}

/** Makes a dictionary of outputs of an answer, of the first example. */
export function outputsOf(document, signature) {
  const names = Object.keys(signature.outputs);
  const { outputs } = document;
  const all = names.length === 1 ? { [names[0]]: outputs } : outputs;
  return Object.fromEntries(
    names
      .filter((name) => name in all)
      .map((name) => {
        const isRows = hasRows(signature.outputs[name]);
        return [name, isRows && all[name].length === 1 ? all[name][0] : all[name]];
      }),
  );
}

/** Makes the elements that show outputs: those that `words` names, or all. */
export function showOutputs(outputs, signature, words) {
  const named = Object.keys(words).filter((name) => name in outputs);
  const chosen = named.length
    ? named.map((name) => [name, words[name]])
    : guessed(outputs, signature);
  return chosen
    .filter(([name, { hidden_when }]) => !isSame(outputs[name], hidden_when))
    .map(([name, word]) =>
      element(
        "div",
        { class: "output" },
        element("h2", { text: word.label ?? name }),
        ...show(outputs, name, word),
      ),
    );
}

/** Makes what unfolds to all that was answered. */
export function showWhole(outputs) {
  return element(
    "details",
    {},
    element("summary", { text: "The whole answer" }),
    element("pre", { tabindex: "0", text: cut(JSON.stringify(outputs, null, 1)) }),
  );
}

function guessed(outputs, signature) {
  const isText = (name) => signature.outputs[name].dtype === "DT_STRING";
  const rank = (name) => shapeOf(signature.outputs[name])?.length ?? 9;
  const names = Object.keys(outputs);
  names.sort((a, b) => isText(b) - isText(a) || rank(a) - rank(b));
  return names.map((name) => {
    const isColoured = isText(name) && rank(name) === 1 && DEPTH in outputs;
    return [name, isColoured ? { depth: DEPTH } : {}];
  });
}

const isSame = (value, other) =>
  other !== undefined && JSON.stringify(value) === JSON.stringify(other);

function show(outputs, name, { depth, layers, scores }) {
  const value = outputs[name];
  const coloured = depth ? showDepths(value, outputs[depth], depth, layers) : null;
  if (coloured) return coloured;
  if (scores && Array.isArray(value) && Array.isArray(outputs[scores])) {
    return [showRanked(value, outputs[scores])];
  }
  if (!Array.isArray(value)) return [element("p", leaf(value))];
  if (value.some(Array.isArray)) {
    return [element("pre", { tabindex: "0", text: cut(JSON.stringify(value)) })];
  }
  return [showItems(value)];
}

function showItems(values) {
  if (!values.length) return element("p", leaf(""));
  const items = values
    .slice(0, MOST_ITEMS)
    .map((each) => element("li", { text: leaf(each).text }));
  const left = values.length - items.length;
  const list = element("ol", { class: "items" }, ...items);
  if (!left) return list;
  const more = element("p", { class: "hint", text: `and ${left} more` });
  return element("div", {}, list, more);
}

/** Colours each word by its depth; null where words and depths do not go together. */
function showDepths(text, depths, name, layers) {
  const words = typeof text === "string" ? text.split(/\s+/).filter(Boolean) : text;
  if (!Array.isArray(words) || !Array.isArray(depths)) return null;
  // Depth 0 is padding. The last may be that of the end, which is no word.
  const there = depths.filter((depth) => depth > 0);
  if (!words.length || there.length < words.length) return null;
  const known = Math.max(layers ?? 0, deepest.get(name) ?? 0, ...there);
  deepest.set(name, known);
  const used = there.slice(0, words.length);
  const items = words.map((word, i) => {
    const item = element(
      "li",
      { text: word },
      element("span", { class: "spoken", text: " layer " }),
      element("sub", { text: used[i] }),
    );
    paint(item, used[i], known);
    return item;
  });
  return [
    element("ol", { class: "items depths" }, ...items),
    legend(known, used.reduce((sum, each) => sum + each, 0) / used.length),
  ];
}

function legend(layers, mean) {
  const scale = Array.from({ length: layers }, (_, i) => {
    const item = element("li", { text: i + 1 });
    paint(item, i + 1, layers);
    return item;
  });
  return element(
    "div",
    { class: "legend" },
    element("span", { text: "Decided after layer" }),
    element("ul", { "aria-label": `Colours of layers 1 to ${layers}` }, ...scale),
    element("span", { text: `on average ${mean.toFixed(1)}` }),
  );
}

function showRanked(names, scores) {
  const pairs = names.map((name, i) => [name, scores[i]]).filter(([name]) => name !== "" && name !== -1);
  if (!pairs.length) return element("p", leaf(""));
  const most = Math.max(...pairs.map(([, score]) => score));
  const items = pairs.map(([name, score]) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${most > 0 ? Math.max(0, (100 * score) / most) : 0}%`;
    return element(
      "li",
      {},
      element("span", { class: "name", text: leaf(name).text }),
      element("span", { class: "score" }, element("span", { class: "spoken", text: "score " }), short(score)),
      bar,
    );
  });
  return element("ol", { class: "ranked" }, ...items);
}

const short = (score) =>
  typeof score === "number" ? score.toPrecision(3) : leaf(score).text;

/** Gives class and text of a single value. */
function leaf(value) {
  if (value === "" || value === null || value === undefined) {
    return { class: "none", text: "nothing" };
  }
  if (typeof value === "number" && !Number.isInteger(value)) {
    return { class: "value", text: String(Number(value.toPrecision(5))) };
  }
  if (typeof value === "object") {
    return { class: "value", text: value.b64 ?? JSON.stringify(value) };
  }
  return { class: "value", text: cut(String(value)) };
}

const cut = (text) =>
  text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)} …` : text;
