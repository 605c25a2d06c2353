// The page: one stream of events in, the document kept up to date. Text is set as text, never as markup. Amounts are
// shown as Postgres wrote them; floats are for drawing alone.

import { chart } from "/chart.js";

const KEPT = 1000, SHOWN = 300, STALE_MS = 5000, HISTORY = 600;
const FILTERS = ["rule", "status", "severity", "key"];
const $ = (id) => document.getElementById(id);

const seen = { alerts: [], candidates: [], samples: [], state: null, run: null };
const view = { paused: false, held: 0, open: null, opener: null, lastEvent: Date.now(), last: "", draw: false, fetching: 0, asking: 0 };

// ---------------------------------------------------------------- small things

function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Thousands in groups, whatever the length: 1234567.50 → 1,234,567.50. */
function grouped(text) {
  const [whole, fraction] = String(text).split(".");
  const digits = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? digits : `${digits}.${fraction}`;
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const pad = (n) => String(n).padStart(2, "0");
const clock = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
const day = (at) => `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;

/** Today only the time of day. */
function when(at) {
  return day(at) === day(new Date()) ? clock(at) : `${day(at)} ${clock(at)}`;
}

function lasting(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 120) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

const keyText = (key) => Object.values(key).map((value) => (value === null ? "NULL" : String(value))).join(", ");
const micros = (at) => new Date(at / 1000);

// ---------------------------------------------------------------- the URL holds what is looked at

function read() {
  const url = new URLSearchParams(location.search);
  const form = $("filters");
  for (const name of FILTERS) {
    const value = url.get(name) ?? "";
    const field = form.elements[name];
    // A rule or severity that has not been heard of yet stays chosen.
    if (field.tagName === "SELECT" && value && ![...field.options].some((option) => option.value === value)) {
      field.append(el("option", { value }, value));
    }
    field.value = value;
  }
  const open = url.get("open");
  view.open = null;
  if (open) {
    try {
      const [rule, key] = JSON.parse(open);
      if (typeof rule === "string" && key && typeof key === "object") view.open = { rule, key };
    } catch {
      // not one of ours
    }
  }
}

function address(change = {}) {
  const url = new URLSearchParams();
  for (const name of FILTERS) if ($("filters").elements[name].value) url.set(name, $("filters").elements[name].value);
  const open = "open" in change ? change.open : view.open;
  if (open) url.set("open", JSON.stringify([open.rule, open.key]));
  const text = url.toString();
  return text ? `?${text}` : location.pathname;
}

// ---------------------------------------------------------------- alerts

function matches(alert) {
  const form = $("filters").elements;
  const is = (name) => !form[name].value || form[name].value === String(alert[name]);
  const key = form.key.value.trim();
  return is("rule") && is("status") && is("severity") && (!key || Object.values(alert.key).some((v) => String(v) === key));
}

const STATUS = { firing: "pill hot", resolved: "pill" };

function keyLink(rule, key, text) {
  const link = el("a", { href: address({ open: { rule, key } }) }, text);
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    show({ rule, key }, link);
  });
  return link;
}

function alertRow(alert) {
  const asked = alert.confirmation?.ms;
  const row = el("tr", { class: alert.status, "data-id": alert.id },
    el("td", {}, el("time", { datetime: alert.emitted_at }, when(new Date(alert.emitted_at)))),
    el("td", {}, el("span", { class: STATUS[alert.status] ?? "pill" }, alert.status)),
    el("td", {}, alert.severity),
    el("td", {}, alert.rule),
    el("td", {}, keyLink(alert.rule, alert.key, alert.message)),
    el("td", { class: "number" }, asked === undefined ? "not asked" : lasting(asked)));
  return row;
}

function drawAlerts() {
  const found = seen.alerts.filter(matches);
  const body = $("alerts");
  const shown = found.slice(0, SHOWN);
  const ids = new Set(shown.map((alert) => alert.id));
  // Rows that stay are left where they are: one of them may have the focus.
  for (const row of [...body.children]) if (!ids.has(row.dataset.id)) row.remove();
  let at = body.firstElementChild;
  for (const alert of shown) {
    if (at?.dataset.id === alert.id) at = at.nextElementSibling; else body.insertBefore(alertRow(alert), at);
  }
  const of = found.length === seen.alerts.length ? `${found.length}` : `${found.length} of ${seen.alerts.length}`;
  $("alerts-count").textContent = `${of}${found.length > SHOWN ? `, the newest ${SHOWN} shown` : ""}`;
  $("none").hidden = found.length > 0;
  $("none").textContent = seen.alerts.length > 0 ? "No alert fits these filters." : "No alert yet.";
  for (const name of ["rule", "severity"]) {
    const field = $("filters").elements[name];
    const known = new Set([...field.options].map((option) => option.value));
    for (const alert of seen.alerts) {
      if (!known.has(alert[name])) {
        known.add(alert[name]);
        field.append(el("option", { value: alert[name] }, alert[name]));
      }
    }
  }
}

// ---------------------------------------------------------------- numbers

function tile(name, value, note) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value, note ? el("small", {}, note) : null));
}

function rates() {
  const points = [];
  for (let i = 1; i < seen.samples.length; i += 1) {
    const [a, b] = [seen.samples[i - 1], seen.samples[i]];
    const seconds = (b.uptime - a.uptime) / 1000;
    if (seconds > 0) points.push({ x: b.uptime, y: (b.read + b.replayed - a.read - a.replayed) / seconds });
  }
  return points;
}

/** Of what has been read; nothing where no record has told its time yet. */
function behindText(state) {
  if (state.lag_records === 0) return "at the end";
  return state.lag_millis === null ? "" : `${lasting(state.lag_millis)} behind`;
}

function drawState() {
  const state = seen.state;
  if (!state) return;
  $("group").textContent = state.group;
  $("topic").textContent = state.topic;
  const phases = { joining: "waiting for the group", recovering: "recovering", rebuilding: "rebuilding windows", working: "working", ended: "ended" };
  // As /readyz has it.
  const ready = state.problems.length === 0;
  $("phase").textContent = ready || state.phase !== "working" ? phases[state.phase] ?? state.phase : "not ready";
  $("phase").className = `pill ${ready ? "" : "hot"}`;
  const trouble = ready ? "" : `Not ready: ${state.problems.join("; ")}.`;
  if ($("trouble").textContent !== trouble) $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;

  const sum = (of) => state.rules.reduce((total, rule) => total + of(rule), 0);
  const points = rates();
  const rejected = Object.entries(state.rejected);
  const [p50, p95] = state.delay_quantiles;
  const upTo = (us) => (us === null ? "–" : `≤ ${lasting(us / 1000)}`);
  $("tiles").replaceChildren(
    tile("events per second", short.format(points.at(-1)?.y ?? 0), `${grouped(state.read)} read`),
    tile("behind", `${grouped(state.lag_records)}`, behindText(state)),
    tile("candidates", grouped(sum((r) => r.counts.candidates)), `${grouped(state.waiting)} waiting`),
    tile("confirmed", grouped(sum((r) => r.counts.confirmed)), `${grouped(sum((r) => r.counts.refuted))} refuted, ${grouped(sum((r) => r.counts.undecided))} undecided`),
    tile("alerts", grouped(sum((r) => r.fired)), `${grouped(sum((r) => r.open))} open`),
    tile("commit to alert", upTo(p50), `95 % ${upTo(p95)}`),
    tile("keys", grouped(state.keys), `${grouped(state.rows)} rows`),
    tile("memory", state.resident_mb === null ? "–" : `${grouped(state.resident_mb)} MiB`, `checkpoint ${lasting(state.checkpoint_age)} ago`),
    ...(rejected.length > 0 ? [tile("not understood", grouped(rejected.reduce((n, [, c]) => n + c, 0)), rejected.map(([kind, n]) => `${kind} ${n}`).join(", "))] : []),
  );
  const ago = (x) => `${lasting(Math.max(0, state.uptime - x))} ago`;
  const how = { y: (n) => short.format(n), x: (x) => (x >= state.uptime - 1500 ? "now" : ago(x)) };
  chart($("rate"), points, { ...how, label: `Events per second, now ${short.format(points.at(-1)?.y ?? 0)}` });
  chart($("lag"), seen.samples.map((s) => ({ x: s.uptime, y: s.lag })), { ...how, label: `Records behind, now ${state.lag_records}` });

  drawTop(state);
  drawRules(state);
  const cells = (...values) => values.map((value) => el("td", { class: "number" }, value === null ? "–" : grouped(value)));
  $("offsets").replaceChildren(...Object.entries(state.partitions).map(([number, p]) =>
    el("tr", {}, el("th", { scope: "row" }, number), ...cells(p.next, p.end, p.logged, p.committed))));
  const epoch = state.epoch;
  $("epoch").textContent = epoch ? `Epoch ${epoch.number}, committed as ${epoch.name}` : "No epoch yet.";
}

function drawTop(state) {
  const rows = state.top.slice(0, 12).map((top) => {
    const [total, threshold] = [Number(top.total), Number(top.threshold)];
    const meter = el("meter", { min: 0, max: Math.max(threshold * 1.5, total), low: threshold * 0.8, high: threshold, optimum: 0, value: total, "aria-label": `${top.label}: ${top.total} against ${top.threshold}` });
    return el("li", {}, el("div", { class: "name" }, keyLink(top.rule, top.key, top.label), el("span", {}, `${grouped(top.total)} / ${grouped(top.threshold)}`)), meter);
  });
  // Not while somebody is on one of its links: the focus would be lost.
  if (!$("top").contains(document.activeElement)) $("top").replaceChildren(...rows);
}

function drawRules(state) {
  const names = state.rules.map((rule) => rule.name).join("\n");
  if ($("rules").dataset.names !== names) {
    $("rules").dataset.names = names;
    $("rules").replaceChildren(...state.rules.map((rule) => el("article", {}, el("h3", {}, rule.name),
      el("p", {}, `${rule.having} per ${rule.key.join(", ")}`), el("p", { class: "quiet" }),
      el("details", {}, el("summary", {}, "its query"), el("pre", {}, rule.sql)))));
  }
  state.rules.forEach((rule, index) => {
    const asked = rule.confirmed_by_postgres ? "" : "; not confirmed by Postgres";
    $("rules").children[index].querySelector("p.quiet").textContent =
      `${rule.severity}; ${grouped(rule.open)} open, ${grouped(rule.fired)} fired, ${grouped(rule.resolved)} resolved${asked}`;
  });
}

const OUTCOMES = { confirmed: "pill", refuted: "pill warm", undecided: "pill warm", failed: "pill hot" };

function drawCandidates() {
  $("candidates").replaceChildren(...seen.candidates.slice(0, 40).map((report) => el("li", {}, el("div", { class: "name" },
    el("span", {}, el("time", { class: "quiet" }, clock(micros(report.at))), " ", report.label),
    el("span", { class: OUTCOMES[report.outcome] ?? "pill" }, report.millis === null ? report.outcome : `${report.outcome} in ${lasting(report.millis)}`)))));
}

// ---------------------------------------------------------------- a key

async function show(open, opener) {
  view.open = open;
  view.opener = opener ?? view.opener;
  history.pushState(null, "", address());
  await drawKey();
  $("key-heading").focus();
}

function close() {
  view.open = null;
  $("key").hidden = true;
  history.pushState(null, "", address());
  if (view.opener?.isConnected) view.opener.focus(); else $("alerts-heading").focus();
}

async function drawKey() {
  if (!view.open) {
    $("key").hidden = true;
    return;
  }
  const { rule, key } = view.open;
  const mine = (view.fetching += 1);
  const heading = `${keyText(key)} under ${rule}`;
  if ($("key").hidden || $("key-heading").textContent !== heading) {
    $("key-summary").textContent = "Asking Postgres …";
    $("key-chart").replaceChildren();
    $("key-rows").replaceChildren();
  }
  $("key").hidden = false;
  $("key-heading").textContent = heading;
  let found;
  view.asking += 1;
  try {
    const answer = await fetch(`/api/key?${new URLSearchParams({ rule, key: JSON.stringify(key) })}`);
    found = await answer.json();
  } catch {
    found = { problem: "the server does not answer" };
  } finally {
    view.asking -= 1;
  }
  if (mine !== view.fetching) return;
  if (found.problem) {
    $("key-summary").textContent = `This key cannot be shown: ${found.problem}`;
    $("key-chart").replaceChildren();
    $("key-rows").replaceChildren();
    return;
  }
  const { trace, threshold, comparison } = found;
  // Conditions on several aggregates, and distinct values, add up to no line.
  const isDrawn = threshold !== null && (trace.points.length === 0 || trace.points.some((point) => point.total !== null));
  const total = el("strong", { id: "key-total", "data-total": trace.total ?? "" }, grouped(trace.total ?? "0"));
  const left = trace.rows > trace.points.length ? `, the latest ${grouped(trace.points.length)} drawn` : "";
  const since = trace.from === null ? "" : ` since ${when(micros(trace.from))}`;
  if (isDrawn) $("key-summary").replaceChildren("Postgres adds up ", total, ` over ${grouped(trace.rows)} rows${since}${left}; the rule asks for ${comparison} ${grouped(threshold)}.`);
  else $("key-summary").textContent = `Postgres has ${grouped(trace.rows)} rows${since}; the rule asks for ${found.having}.`;
  const timed = trace.from !== null;
  const place = (point, index) => (timed ? (point.at ?? trace.from) / 1000 : index);
  const points = trace.points.map((point, index) => ({ x: place(point, index), y: Number(point.total ?? 0) }));
  const marks = timed ? found.confirmed.filter((mark) => mark.total !== null && Date.parse(mark.at) * 1000 >= trace.from).map((mark) => ({
    x: Date.parse(mark.at), y: Number(mark.total), kind: mark.status, title: `${mark.status} ${mark.at}: ${mark.message}`,
  })) : [];
  const first = points[0]?.x;
  const to = timed ? trace.to / 1000 : undefined;
  if (!isDrawn) $("key-chart").replaceChildren();
  else chart($("key-chart"), points, {
    stairs: true, threshold: Number(threshold), marks, to,
    from: timed && first !== undefined ? Math.max(trace.from / 1000, first - Math.max((to - first) * 0.02, 1000)) : undefined,
    y: (n) => short.format(n), x: (x) => (timed ? when(new Date(x)) : `row ${x + 1}`),
    label: `Total of ${keyText(key)} over time: ${trace.total ?? 0} at the end, threshold ${threshold}, ${marks.length} confirmed points`,
  });
  $("key-rows").replaceChildren(...trace.points.slice(-200).reverse().map((point) => el("tr", {},
    el("td", {}, point.at === null ? "–" : when(micros(point.at))), el("td", {}, point.pk),
    el("td", { class: "number" }, grouped(point.value ?? "NULL")), el("td", { class: "number" }, grouped(point.total ?? "NULL")))));
}

// ---------------------------------------------------------------- what comes in

function redraw() {
  if (view.draw) return;
  view.draw = true;
  requestAnimationFrame(() => {
    view.draw = false;
    if (view.paused) {
      $("pause").textContent = view.held > 0 ? `Go on (${view.held} new)` : "Go on";
      return;
    }
    drawAlerts();
    drawCandidates();
  });
}

function fresh() {
  const cut = Date.now() - view.lastEvent > STALE_MS;
  document.body.classList.toggle("stale", cut);
  $("phase").hidden = cut; // who knows
  const text = cut ? `stale since ${when(new Date(view.lastEvent))}` : "live";
  if ($("stream").textContent !== text) $("stream").textContent = text;
  $("stream").className = `pill ${cut ? "hot" : ""}`;
}

let announced = 0;
function announce(alert) {
  if (Date.now() - announced < 3000) return; // a reader could not follow
  announced = Date.now();
  $("announce").textContent = `${alert.status}: ${alert.message}`;
}

function listen() {
  const stream = new EventSource(view.last ? `/api/events?${new URLSearchParams({ last: view.last })}` : "/api/events");
  const on = (name, take) => stream.addEventListener(name, (event) => {
    view.lastEvent = Date.now();
    view.last = event.lastEventId || view.last;
    take(JSON.parse(event.data));
    fresh();
  });
  on("hello", (hello) => {
    if (!hello.resumed) {
      seen.alerts = [];
      seen.candidates = [];
      redraw();
    }
    fetch("/api/state").then((answer) => answer.json()).then((state) => {
      seen.samples = state.history;
      seen.state = state;
      drawState();
    }).catch(() => {});
  });
  on("state", (state) => {
    seen.state = state;
    seen.samples.push({ uptime: state.uptime, read: state.read, replayed: state.replayed, lag: state.lag_records });
    if (seen.samples.length > HISTORY) seen.samples.shift();
    if (!view.paused) drawState();
  });
  on("alert", (alert) => {
    if (seen.alerts.some((known) => known.id === alert.id)) return;
    seen.alerts.unshift(alert);
    seen.alerts.length = Math.min(seen.alerts.length, KEPT);
    if (view.paused) view.held += 1;
    if (Date.now() - Date.parse(alert.emitted_at) < 60000 && matches(alert)) announce(alert);
    redraw();
  });
  on("candidate", (report) => {
    seen.candidates.unshift(report);
    seen.candidates.length = Math.min(seen.candidates.length, KEPT);
    redraw();
  });
  // A browser does not come back by itself after an answer that is no stream.
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

// ---------------------------------------------------------------- hands

const THEMES = ["system", "light", "dark"];
function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
}

function stored() {
  try {
    const name = localStorage.getItem("theme");
    return THEMES.includes(name) ? name : "system";
  } catch {
    return "system";
  }
}

theme(stored());
$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "system";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  theme(next);
  try {
    localStorage.setItem("theme", next);
  } catch {
    // it holds for this visit
  }
});
$("pause").addEventListener("click", () => {
  view.paused = !view.paused;
  view.held = 0;
  $("pause").setAttribute("aria-pressed", String(view.paused));
  $("pause").textContent = view.paused ? "Go on" : "Pause";
  if (!view.paused) {
    drawState();
    redraw();
  }
});
const filtered = () => {
  history.replaceState(null, "", address());
  $("alerts").replaceChildren(); // their links hold the filters
  drawAlerts();
};
$("filters").addEventListener("input", filtered);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(filtered));
$("key-close").addEventListener("click", close);
$("key").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
addEventListener("popstate", () => { read(); drawAlerts(); drawKey(); });
addEventListener("resize", () => { drawState(); drawKey(); });
setInterval(fresh, 1000);
// Not while an answer is still to come: a slow one would never be shown.
setInterval(() => { if (view.open && !view.paused && !document.hidden && view.asking === 0) drawKey(); }, 5000);

read();
drawAlerts();
drawKey();
listen();
