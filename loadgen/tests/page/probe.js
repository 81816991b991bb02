// What a reader sees of this page, as JSON to the frame around it.
(() => {
  const channels = (colour) => (colour.match(/[\d.]+/g) || []).slice(0, 3).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const body = getComputedStyle(document.body);
  const isVisible = (element) => element.getBoundingClientRect().width > 0;
  const chart = (svg) => {
    const frame = svg.getBoundingClientRect();
    const card = getComputedStyle(svg.closest("section")).backgroundColor;
    const isOutside = (text) => {
      const box = text.getBoundingClientRect();
      return box.left < frame.left - 1 || box.right > frame.right + 1 ||
        box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
    };
    const line = (path) => ({
      class: [...path.classList].find((name) => name !== "line"),
      length: path.getTotalLength(),
      contrast: contrast(getComputedStyle(path).stroke, card),
    });
    return {
      visible: isVisible(svg),
      outside: isVisible(svg)
        ? [...svg.querySelectorAll("text")].filter(isOutside).map((text) => text.textContent)
        : [],
      lines: [...svg.querySelectorAll("path.line")].map(line),
    };
  };
  parent.postMessage(JSON.stringify({
    width: innerWidth,
    contentWidth: document.documentElement.scrollWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    contrast: contrast(body.color, body.backgroundColor),
    resources: performance.getEntriesByType("resource").length,
    charts: [...document.querySelectorAll("svg")].map(chart),
  }), "*");
})();
