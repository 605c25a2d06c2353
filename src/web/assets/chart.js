// Small charts in SVG. Colours and type come from the style sheet; numbers are floats here, for drawing alone.

const SPACE = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, text) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** 1, 2 or 5 times a power of ten, so that about `count` of them make `span`. */
function step(span, count) {
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5, 10].find((n) => n * power >= rough) ?? 10);
}

/**
 * Draws points of {x, y} into a box.
 * @param {Element} box
 * @param {{x: number, y: number}[]} given points in the order of x
 * @param {{label: string, y: (n: number) => string, x: (n: number) => string, stairs?: boolean,
 *   threshold?: number, marks?: {x: number, y: number, kind: string, title: string}[], from?: number, to?: number}} how
 */
export function chart(box, given, how) {
  const width = Math.max(box.clientWidth, 200);
  const height = Math.max(box.clientHeight, 60);
  const edge = { left: 52, right: 10, top: 8, bottom: 18 };
  // What came before the left edge counts: the line begins at its last value.
  const before = how.from === undefined ? 0 : given.filter((p) => p.x < how.from).length;
  const points = before > 0 ? [{ x: how.from, y: given[before - 1].y }, ...given.slice(before)] : given;
  const marks = (how.marks ?? []).filter((mark) => how.from === undefined || mark.x >= how.from);
  const xs = [...points, ...marks].map((p) => p.x);
  const ys = [...points, ...marks].map((p) => p.y).concat(how.threshold ?? [], 0);
  const x0 = how.from ?? Math.min(...xs), x1 = how.to ?? Math.max(...xs);
  const y0 = Math.min(...ys), top = Math.max(...ys);
  const y1 = top > y0 ? top + (top - y0) * 0.06 : y0 + 1;
  const px = (x) => edge.left + (width - edge.left - edge.right) * (x1 > x0 ? (x - x0) / (x1 - x0) : 1);
  const py = (y) => height - edge.bottom - (height - edge.top - edge.bottom) * ((y - y0) / (y1 - y0));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": how.label });
  const by = step(y1 - y0, height / 40);
  for (let y = Math.ceil(y0 / by) * by; y <= y1; y += by) {
    svg.append(make("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: py(y), y2: py(y) }));
    svg.append(make("text", { x: edge.left - 6, y: py(y) + 4, "text-anchor": "end" }, how.y(y)));
  }
  if (Number.isFinite(x0) && Number.isFinite(x1)) {
    svg.append(make("text", { x: edge.left, y: height - 4 }, how.x(x0)));
    svg.append(make("text", { x: width - edge.right, y: height - 4, "text-anchor": "end" }, how.x(x1)));
  }
  if (points.length > 0) {
    let line = `M${px(points[0].x)},${py(points[0].y)}`;
    for (const p of points.slice(1)) line += how.stairs ? `H${px(p.x)}V${py(p.y)}` : `L${px(p.x)},${py(p.y)}`;
    if (how.stairs) line += `H${px(x1)}`;
    const last = how.stairs ? px(x1) : px(points.at(-1).x);
    svg.append(make("path", { class: "area", d: `${line}V${py(Math.max(y0, 0))}H${px(points[0].x)}Z` }));
    svg.append(make("path", { class: "line", d: line, "data-last": last }));
  }
  if (how.threshold !== undefined) {
    const y = py(how.threshold);
    svg.append(make("line", { class: "threshold", x1: edge.left, x2: width - edge.right, y1: y, y2: y }));
    svg.append(make("text", { class: "over", x: edge.left + 6, y: y - 4 }, `threshold ${how.y(how.threshold)}`));
  }
  for (const mark of marks) {
    const dot = make("circle", { class: `point ${mark.kind}`, cx: px(mark.x), cy: py(mark.y), r: 5 });
    dot.append(make("title", {}, mark.title));
    svg.append(dot);
  }
  box.replaceChildren(svg);
}
