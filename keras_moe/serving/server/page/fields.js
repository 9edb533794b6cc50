// A field for each input of a signature, and the JSON of what it holds.

import { element } from "./elements.js";

const KINDS = {
  DT_STRING: { hint: "text", read: (text) => JSON.stringify(text) },
  DT_BOOL: { hint: "yes or no" },
  whole: {
    hint: "whole number",
    rule: /^[+-]?\d+$/,
    // All digits are kept: a Number would round after the sixteenth.
    read: (text) => String(BigInt(text.replace(/^\+/, ""))),
  },
  number: {
    hint: "number",
    rule: /^([+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|NaN|-?Infinity)$/i,
    read: (text) => String(Number(text)),
  },
};

/** An input that does not hold what it must; the message says what. */
export class WrongInput extends Error {
  constructor(message, field) {
    super(message);
    this.field = field;
  }
}

/** Gives the sizes of a tensor, -1 where any will do; null for any rank. */
export function shapeOf(info) {
  const shape = info.tensor_shape ?? {};
  if (shape.unknown_rank) return null;
  return (shape.dim ?? []).map((each) => Number(each.size));
}

/** Tells whether a tensor has a row for each example. */
export const hasRows = (info) => shapeOf(info)?.[0] === -1;

function kindOf(info) {
  if (info.dtype in KINDS) return KINDS[info.dtype];
  return /INT/.test(info.dtype) ? KINDS.whole : KINDS.number;
}

/** Makes the field of an input. */
export class Field {
  /**
   * name: of the input; info: its TensorInfo; words: its label and so on, from
   * page.json; number: makes ids, since names may hold anything;
   * isOptional: whether the signature has a value where none is given.
   */
  constructor(name, info, words, number, isOptional) {
    this.name = name;
    this.words = words;
    this.isOptional = isOptional;
    this.isRow = hasRows(info);
    this.kind = kindOf(info);
    const shape = shapeOf(info);
    this.inner = this.isRow ? shape.slice(1) : shape;
    this.isPlain = this.inner?.length === 0;
    this.isTruth = this.isPlain && info.dtype === "DT_BOOL";
    this.control = this.#makeControl(info, `input-${number}`);
    this.problem = element("p", { class: "wrong", id: `wrong-${number}` });
    const hint = element("p", {
      class: "hint",
      id: `hint-${number}`,
      text: words.hint ?? this.#hint(),
    });
    this.control.setAttribute("aria-describedby", `${hint.id} ${this.problem.id}`);
    const label = element("label", { for: this.control.id });
    label.textContent = words.label ?? name;
    this.element = element("div", { class: this.isTruth ? "field truth" : "field" });
    const parts = this.isTruth ? [this.control, label] : [label, this.control];
    this.element.append(...parts, hint, this.problem);
    this.control.addEventListener("input", () => this.#complain(""));
  }

  /** What a person has given, to be kept where the form is made anew. */
  get value() {
    return this.isTruth ? this.control.checked : this.control.value;
  }

  set value(value) {
    if (this.isTruth) this.control.checked = Boolean(value);
    else this.control.value = value;
  }

  /** Gives the JSON of the input; null where it is left to the model. */
  json() {
    try {
      const text = this.#read();
      this.#complain("");
      if (text === null) return null;
      return this.isRow ? `[${text}]` : text;
    } catch (error) {
      this.#complain(error.message);
      throw new WrongInput(error.message, this);
    }
  }

  #makeControl(info, id) {
    if (this.isTruth) {
      const control = element("input", { id, type: "checkbox" });
      control.checked = this.words.example === true;
      return control;
    }
    const isText = info.dtype === "DT_STRING";
    const rows = this.words.rows ?? (this.isPlain ? 1 : 3);
    const control =
      rows > 1
        ? element("textarea", { id, rows })
        : element("input", { id, type: "text", autocomplete: "off" });
    control.spellcheck = isText && rows > 1;
    if (!isText) control.inputMode = this.isPlain ? "decimal" : "text";
    const { example } = this.words;
    if (example !== undefined) {
      const isJson = !this.isPlain || typeof example !== "string";
      control.value = isJson ? JSON.stringify(example) : example;
    }
    return control;
  }

  #hint() {
    if (this.isPlain) return this.kind.hint;
    if (this.inner === null) return "JSON of any shape";
    const sizes = this.inner.map((size) => (size < 0 ? "any" : size));
    const many = sizes.length > 1 ? `lists in lists, ${sizes.join(" × ")}` : "a list";
    const of = sizes.length === 1 && this.inner[0] > 0 ? ` of ${sizes[0]}` : "";
    return `JSON: ${many}${of}, such as ${this.#sample()}`;
  }

  #sample() {
    const leaf = this.kind === KINDS.DT_STRING ? '"a"' : this.kind === KINDS.DT_BOOL ? "true" : "0";
    const size = Math.min(Math.max(this.inner.at(-1), 2), 4);
    const row = `[${Array(size).fill(leaf).join(", ")}]`;
    return this.inner.slice(1).reduce((inside) => `[${inside}]`, row);
  }

  #read() {
    if (this.isTruth) return String(this.control.checked);
    const isText = this.kind === KINDS.DT_STRING;
    const text = isText && this.isPlain ? this.control.value : this.control.value.trim();
    if (text === "" && this.isOptional) return null;
    if (!this.isPlain) return this.#readJson(text);
    if (this.kind.rule && !this.kind.rule.test(text)) {
      throw new Error(`This must be a ${this.kind.hint}.`);
    }
    return this.kind.read(text);
  }

  #readJson(text) {
    const isBare = this.inner?.length === 1 && !text.startsWith("[");
    const whole = isBare ? `[${text}]` : text;
    try {
      JSON.parse(whole);
    } catch {
      throw new Error(`This must be ${this.#hint()}.`);
    }
    return whole;
  }

  #complain(message) {
    this.problem.textContent = message;
    if (message) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }
}
