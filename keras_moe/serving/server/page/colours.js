// One colour for each layer at which a token may leave a decoder: those of
// keras_moe.visualization, from light to dark, so that their order is seen by
// every kind of colour vision.

const STOPS = ["#f7f3c6", "#b5ddb0", "#56b3ae", "#2b7ba8", "#27408b", "#1a1442"];

const channels = (colour) =>
  [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** Gives red, green and blue for a layer of so many, from 1. */
export function colourOf(layer, layers) {
  const at = layers > 1 ? ((layer - 1) / (layers - 1)) * (STOPS.length - 1) : 0;
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  const [from, to] = [channels(STOPS[low]), channels(STOPS[low + 1])];
  return from.map((value, i) => Math.round(value + (to[i] - value) * (at - low)));
}

/** Gives black or white, whichever is easier to read on a colour. */
function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "#000" : "#fff";
}

/** Colours an element by a layer. */
export function paint(element, layer, layers) {
  const colour = colourOf(Math.min(layer, layers), layers);
  element.style.backgroundColor = `rgb(${colour.join(", ")})`;
  element.style.color = inkOn(colour);
}
