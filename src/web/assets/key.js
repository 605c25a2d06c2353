// A key: its total in the window as Postgres adds it up, against the threshold.

import { chart } from "/chart.js";
import { $, el, grouped, keyText, micros, row, short, when } from "/dom.js";

const ROWS = 200;
const COLUMNS = [["time"], ["row"], ["adds", "number"], ["total", "number"]];
const pending = { newest: 0, asking: 0 };
/** Whether the chart shows the whole window; the last answer, to draw it again. */
const view = { whole: false, found: null };

export const isAsking = () => pending.asking > 0;

/** Asks Postgres and draws; nothing is open: hides. */
export async function drawKey(open) {
  if (!open) {
    $("key").hidden = true;
    return;
  }
  const { rule, key } = open;
  const mine = (pending.newest += 1);
  const heading = `${keyText(key)} under ${rule}`;
  if ($("key").hidden || $("key-heading").textContent !== heading) {
    $("key-summary").textContent = "Asking Postgres …";
    view.whole = false;
    clear();
  }
  $("key").hidden = false;
  $("key-heading").textContent = heading;
  let found;
  pending.asking += 1;
  try {
    const answer = await fetch(`/api/key?${new URLSearchParams({ rule, key: JSON.stringify(key) })}`);
    found = await answer.json();
  } catch {
    found = { problem: "the server does not answer" };
  } finally {
    pending.asking -= 1;
  }
  if (mine !== pending.newest) return;
  if (found.problem) {
    $("key-summary").textContent = `This key cannot be shown: ${found.problem}`;
    clear();
    return;
  }
  view.found = found;
  drawFound(found);
}

function clear() {
  view.found = null;
  $("key-zoom").hidden = true;
  $("key-chart").replaceChildren();
  $("key-rows").replaceChildren();
}

function drawFound(found) {
  const { trace, threshold, comparison } = found;
  // Conditions on several aggregates, and distinct values, add up to no line.
  const isDrawn = threshold !== null && (trace.points.length === 0 || trace.points.some((point) => point.total !== null));
  const left = trace.rows > trace.points.length ? `, the latest ${grouped(trace.points.length)} drawn` : "";
  const since = trace.from === null ? "" : ` since ${when(micros(trace.from))}`;
  const summary = $("key-summary");
  if (isDrawn) {
    const total = el("strong", { id: "key-total", "data-total": trace.total ?? "" }, grouped(trace.total ?? "0"));
    summary.replaceChildren("Postgres adds up ", total, ` over ${grouped(trace.rows)} rows${since}${left}; the rule asks for ${comparison} ${grouped(threshold)}.`);
  } else {
    summary.textContent = `Postgres has ${grouped(trace.rows)} rows${since}; the rule asks for ${found.having}.`;
  }
  if (isDrawn) drawChart(found); else $("key-chart").replaceChildren();
  $("key-rows").replaceChildren(...trace.points.slice(-ROWS).reverse().map((point) => row(COLUMNS, [
    point.at === null ? "–" : when(micros(point.at)), point.pk, grouped(point.value ?? "NULL"), grouped(point.total ?? "NULL"),
  ])));
}

/**
 * Where the chart begins so that what happened fills it: a little before the crossing or the first confirmed point,
 * and before nine tenths of the rows. `undefined`: the whole window is as good.
 */
function zoomFrom(points, marks, threshold, whole, to) {
  if (points.length === 0) return undefined;
  const isOver = (point) => point.y > threshold;
  let crossing = points.length - 1;
  while (crossing > 0 && isOver(points[crossing - 1]) === isOver(points.at(-1))) crossing -= 1;
  const most = points[Math.min(Math.ceil(points.length / 10), points.length - 1)].x;
  const crossed = crossing > 0 || isOver(points[0]) ? points[crossing].x : most;
  const first = Math.min(most, crossed, ...marks.map((mark) => mark.x));
  const from = first - Math.max((to - first) * 0.1, 1000);
  return from - whole > (to - whole) * 0.25 ? from : undefined;
}

function drawChart(found) {
  const { trace, threshold, key } = found;
  const timed = trace.from !== null;
  const place = (point, index) => (timed ? (point.at ?? trace.from) / 1000 : index);
  const points = trace.points.map((point, index) => ({ x: place(point, index), y: Number(point.total ?? 0) }));
  const marks = timed ? found.confirmed.filter((mark) => mark.total !== null && Date.parse(mark.at) * 1000 >= trace.from).map((mark) => ({
    x: Date.parse(mark.at), y: Number(mark.total), kind: mark.status, title: `${mark.status} ${mark.at}: ${mark.message}`,
  })) : [];
  const [whole, to] = timed ? [trace.from / 1000, trace.to / 1000] : [];
  const zoomed = timed ? zoomFrom(points, marks, Number(threshold), whole, to) : undefined;
  $("key-zoom").hidden = zoomed === undefined;
  $("key-zoom").setAttribute("aria-pressed", String(view.whole));
  const from = view.whole ? whole : zoomed ?? whole;
  const before = points.filter((point) => point.x < from).length;
  const note = before > 0 ? `, drawn from ${when(new Date(from))}: ${grouped(before)} earlier rows are in the total` : "";
  chart($("key-chart"), points, {
    stairs: true, threshold: Number(threshold), marks, to, from,
    y: short, x: (x) => (timed ? when(new Date(x)) : `row ${x + 1}`),
    label: `Total of ${keyText(key)} over time: ${trace.total ?? 0} at the end, threshold ${threshold}, ${marks.length} confirmed points${note}`,
  });
}

/** After a change of the window's size. */
export function redrawKey() {
  if (view.found && !$("key").hidden) drawFound(view.found);
}

$("key-zoom").addEventListener("click", () => {
  view.whole = !view.whole;
  redrawKey();
});
