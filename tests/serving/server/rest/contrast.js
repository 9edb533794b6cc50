// The contrast of WCAG 2 (1.4.3) between each text and what lies behind it.
(() => {
  const read = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [red, green, blue] = colour.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = read(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    throw new Error("nothing lies behind");
  };
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const hasText = [...node.childNodes].some(
      (child) => child.nodeType === Node.TEXT_NODE && child.data.trim(),
    );
    if (!(hasText || node.matches("input, select")) || !node.checkVisibility()) continue;
    const [a, b] = [read(getComputedStyle(node).color), behind(node)].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${node.tagName} ${node.className}`;
    found[name] = Math.min(found[name] ?? 21, contrast);
  }
  return found;
})()
