// The page: one stream of events in, the document kept up to date. Text is set as text, never as markup.

import { chart } from "/chart.js";
import { $, clock, el, grouped, lasting, micros, row, short, time, when } from "/dom.js";
import { drawKey, isAsking, redrawKey } from "/key.js";

const KEPT = 2000, SHOWN = 50, MORE = 200, OPEN_SHOWN = 10, OPEN_LISTED = 1000, TOP_SHOWN = 8, STALE_MS = 5000, HISTORY = 600;
const FILTERS = ["rule", "status", "severity", "key"];
const ALERT_COLUMNS = [["time"], ["status"], ["severity", "severity"], ["rule", "rule"], ["message", "message"], ["confirmation latency", "number"]];
const OPEN_COLUMNS = [["since"], ["severity", "severity"], ["rule", "rule"], ["key", "key"], ["message", "message"]];
const OFFSET_COLUMNS = ["partition", "next", "end", "folder", "group"].map((name) => [name, name === "partition" ? undefined : "number"]);

const seen = { alerts: [], ids: new Set(), open: [], openList: null, candidates: [], samples: [], state: null };
const view = { paused: false, held: 0, open: null, opener: null, lastEvent: Date.now(), last: "", draw: false, shown: SHOWN, openShown: OPEN_SHOWN, openAgain: 0 };

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

const pill = (text, kind = "pill") => el("span", { class: kind }, text);

function alertRow(alert) {
  const asked = alert.confirmation?.ms;
  return row(ALERT_COLUMNS, [
    time(alert.emitted_at), pill(alert.status, STATUS[alert.status]), alert.severity, alert.rule,
    keyLink(alert.rule, alert.key, alert.message), asked === undefined ? "not asked" : lasting(asked),
  ], { class: alert.status, "data-id": alert.id });
}

/** Makes a table's body these items; rows that are kept stay where they are: one of them may have the focus. */
function keepRows(body, items, idOf, make) {
  const ids = new Set(items.map(idOf));
  for (const old of [...body.children]) if (!ids.has(old.dataset.id)) old.remove();
  let at = body.firstElementChild;
  for (const item of items) {
    if (at?.dataset.id === idOf(item)) at = at.nextElementSibling; else body.insertBefore(make(item), at);
  }
}

function drawAlerts() {
  const found = seen.alerts.filter(matches);
  const shown = found.slice(0, view.shown);
  keepRows($("alerts"), shown, (alert) => alert.id, alertRow);
  const of = found.length === seen.alerts.length ? grouped(found.length) : `${grouped(found.length)} of ${grouped(seen.alerts.length)}`;
  $("alerts-count").textContent = found.length > shown.length ? `${of}, the newest ${grouped(shown.length)} shown` : of;
  $("alerts-table").hidden = found.length === 0;
  $("more").hidden = found.length <= shown.length;
  $("more").textContent = `Show ${grouped(Math.min(MORE, found.length - shown.length))} more`;
  $("none").hidden = found.length > 0;
  $("none").textContent = seen.alerts.length > 0 ? "No alert fits these filters." : "No alert since this process began.";
  choices(seen.alerts);
  drawOpen();
}

/** Rules and severities that can be chosen. */
function choices(all) {
  for (const name of ["rule", "severity"]) {
    const field = $("filters").elements[name];
    const known = new Set([...field.options].map((option) => option.value));
    for (const one of all) {
      if (!known.has(one[name])) {
        known.add(one[name]);
        field.append(el("option", { value: one[name] }, one[name]));
      }
    }
  }
}

function openRow(one) {
  const message = one.message ?? "alerted by an earlier process";
  return row(OPEN_COLUMNS, [
    time(one.since), one.severity, one.rule, one.label, keyLink(one.rule, one.key, message),
  ], { "data-id": `${one.alert} ${one.message === null}` });
}

function drawOpen() {
  // An alert's status is no property of what is open, which is all firing.
  const found = seen.open.filter((one) => matches({ ...one, status: $("filters").elements.status.value || "firing" }));
  const shown = found.slice(0, view.openShown);
  keepRows($("open"), shown, (one) => `${one.alert} ${one.message === null}`, openRow);
  // Past that the list has the newest alone, and the numbers have all.
  const all = seen.open.length < OPEN_LISTED ? seen.open.length : seen.state.rules.reduce((sum, rule) => sum + rule.open, 0);
  $("open-count").textContent = found.length === all ? grouped(all) : `${grouped(found.length)} of ${grouped(all)}`;
  $("open-table").hidden = found.length === 0;
  $("open-more").hidden = found.length <= shown.length;
  $("open-more").textContent = `Show ${grouped(Math.min(MORE, found.length - shown.length))} more`;
  $("open-none").hidden = found.length > 0;
  $("open-none").textContent = seen.open.length > 0 ? "Nothing that is open fits these filters." : "Nothing is open.";
  choices(seen.open);
}

/** Asks for the list of what is open where it has changed, and again while a message is missing that may be found. */
async function refreshOpen(state) {
  const list = `${state.run} ${state.open_lists}`;
  if (seen.openList === list && (seen.open.every((one) => one.message !== null) || Date.now() < view.openAgain)) return;
  [seen.openList, view.openAgain] = [list, Date.now() + 10000];
  try {
    seen.open = (await (await fetch("/api/open")).json()).open;
    redraw();
  } catch {
    seen.openList = null; // with the next numbers
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

/** Of what has been read; nothing where no record's time is known yet. */
function lagText(state) {
  if (state.lag_records === 0) return "caught up";
  return state.lag_millis === null ? "records" : `records, ${lasting(state.lag_millis)}`;
}

/** What `/readyz` answers, line by line. */
function drawHealth(state) {
  const ready = state.problems.length === 0;
  const text = [ready ? "ready" : "not ready", ...state.problems].join("\n");
  if ($("health").dataset.text === text) return; // it is read out when it changes
  $("health").dataset.text = text;
  $("health").className = `health ${ready ? "good" : "hot"}`;
  $("health-state").textContent = ready ? "ready" : "not ready";
  $("problems").replaceChildren(...state.problems.map((problem) => el("li", {}, problem)));
  $("problems").hidden = ready;
}

function drawState() {
  const state = seen.state;
  if (!state) return;
  $("group").textContent = state.group;
  $("topic").textContent = state.topic;
  const phases = { joining: "waiting for the group", recovering: "recovering", rebuilding: "rebuilding windows", working: "working", ended: "ended" };
  $("phase").textContent = phases[state.phase] ?? state.phase;
  $("phase").className = `pill ${state.phase === "working" ? "" : "warm"}`;
  drawHealth(state);

  const sum = (of) => state.rules.reduce((total, rule) => total + of(rule), 0);
  const points = rates();
  const rejected = Object.entries(state.rejected);
  const [p50, p95] = state.delay_quantiles;
  const upTo = (us) => (us === null ? "–" : `≤ ${lasting(us / 1000)}`);
  $("tiles").replaceChildren(
    tile("events per second", short(points.at(-1)?.y ?? 0), `${grouped(state.read)} read`),
    tile("consumer lag", grouped(state.lag_records), lagText(state)),
    tile("candidates", grouped(sum((r) => r.counts.candidates)), `${grouped(state.waiting)} waiting`),
    tile("confirmed", grouped(sum((r) => r.counts.confirmed)), `${grouped(sum((r) => r.counts.refuted))} refuted, ${grouped(sum((r) => r.counts.undecided))} undecided`),
    tile("alerts", grouped(sum((r) => r.fired)), `${grouped(sum((r) => r.open))} open`),
    tile("alert latency", upTo(p50), `95 % ${upTo(p95)}`),
    tile("keys", grouped(state.keys), `${grouped(state.rows)} rows`),
    tile("memory", state.resident_mb === null ? "–" : `${grouped(state.resident_mb)} MiB`, state.checkpoint_age === null ? "no checkpoint yet" : `checkpoint ${lasting(state.checkpoint_age)} ago`),
    ...(rejected.length > 0 ? [tile("rejected records", grouped(rejected.reduce((n, [, c]) => n + c, 0)), rejected.map(([kind, n]) => `${kind} ${n}`).join(", "))] : []),
  );
  const ago = (x) => `${lasting(Math.max(0, state.uptime - x))} ago`;
  const how = { y: short, x: (x) => (x >= state.uptime - 1500 ? "now" : ago(x)) };
  chart($("rate"), points, { ...how, label: `Events per second, now ${short(points.at(-1)?.y ?? 0)}` });
  chart($("lag"), seen.samples.map((s) => ({ x: s.uptime, y: s.lag })), { ...how, label: `Consumer lag in records, now ${state.lag_records}` });

  drawTop(state);
  drawRules(state);
  $("offsets").replaceChildren(...Object.entries(state.partitions).map(([number, p]) =>
    row(OFFSET_COLUMNS, [number, ...[p.next, p.end, p.logged, p.committed].map((value) => (value === null ? "–" : grouped(value)))])));
  const epoch = state.epoch;
  $("epoch").textContent = epoch ? `Epoch ${epoch.number}, committed as ${epoch.name}` : "No epoch yet.";
}

/** Keys over their threshold and keys that approach it, each list with those furthest on first. */
function drawTop(state) {
  const comparisons = new Map(state.rules.map((rule) => [rule.name, rule.comparison]));
  const ranked = state.top.map((top) => {
    const [total, threshold] = [Number(top.total), Number(top.threshold)];
    const below = comparisons.get(top.rule)?.startsWith("<");
    const share = top.threshold === "" ? 0 : below ? threshold / total : total / threshold;
    return { ...top, total, threshold, text: top.threshold === "" ? grouped(top.total) : `${grouped(top.total)} / ${grouped(top.threshold)}`, share: Number.isNaN(share) ? 0 : share };
  }).sort((a, b) => b.share - a.share);
  const item = (top) => el("li", {},
    el("div", { class: "name" }, el("span", {}, keyLink(top.rule, top.key, top.label), " ", el("span", { class: "quiet rule" }, top.rule)), el("span", { class: "number" }, top.text)),
    top.text.includes("/") ? el("meter", { min: 0, max: Math.max(top.threshold * 1.5, top.total), low: top.threshold * 0.8, high: top.threshold, optimum: 0, value: top.total, "aria-label": `${top.label} under ${top.rule}: ${top.text}` }) : null);
  for (const [id, all] of [["over", ranked.filter((top) => top.over)], ["approaching", ranked.filter((top) => !top.over)]]) {
    // Not while somebody is on one of its links: the focus would be lost.
    if ($(id).contains(document.activeElement)) continue;
    $(id).replaceChildren(...all.slice(0, TOP_SHOWN).map(item));
    $(`${id}-none`).hidden = all.length > 0;
  }
}

/** Each rule is a line to be unfolded; a rule that is alone is unfolded. */
function drawRules(state) {
  const names = state.rules.map((rule) => rule.name).join("\n");
  if ($("rules").dataset.names !== names) {
    $("rules").dataset.names = names;
    $("rules-count").textContent = state.rules.length > 1 ? String(state.rules.length) : "";
    $("rules").replaceChildren(...state.rules.map((rule) => el("details", { open: state.rules.length === 1 ? "" : undefined },
      el("summary", {}, el("span", { class: "title" }, rule.name), " ", el("span", { class: "open-of" })),
      el("p", {}, `${rule.having} per ${rule.key.join(", ")}`), el("p", { class: "quiet" }), el("pre", {}, rule.sql))));
  }
  state.rules.forEach((rule, index) => {
    const line = $("rules").children[index];
    const asked = rule.confirmed_by_postgres ? "" : "; not confirmed by Postgres";
    line.querySelector("p.quiet").textContent =
      `${rule.severity}; ${grouped(rule.open)} open, ${grouped(rule.fired)} fired, ${grouped(rule.resolved)} resolved${asked}`;
    const open = line.querySelector(".open-of");
    open.textContent = rule.open > 0 ? `${grouped(rule.open)} open` : "";
    open.className = `open-of ${rule.open > 0 ? "pill hot" : ""}`;
  });
}

const OUTCOMES = { confirmed: "pill", refuted: "pill warm", undecided: "pill warm", failed: "pill hot" };

function drawCandidates() {
  $("candidates-none").hidden = seen.candidates.length > 0;
  $("candidates").replaceChildren(...seen.candidates.slice(0, 40).map((report) => el("li", {}, el("div", { class: "name" },
    el("span", {}, el("time", { class: "quiet" }, clock(micros(report.at))), " ", report.label),
    el("span", { class: OUTCOMES[report.outcome] ?? "pill" }, report.millis === null ? report.outcome : `${report.outcome}, ${lasting(report.millis)}`)))));
}

// ---------------------------------------------------------------- a key

async function show(open, opener) {
  view.open = open;
  view.opener = opener ?? view.opener;
  history.pushState(null, "", address());
  await drawKey(open);
  $("key-heading").focus();
}

function close() {
  view.open = null;
  $("key").hidden = true;
  history.pushState(null, "", address());
  if (view.opener?.isConnected) view.opener.focus(); else $("alerts-heading").focus();
}

// ---------------------------------------------------------------- what comes in

function redraw() {
  if (view.draw) return;
  view.draw = true;
  requestAnimationFrame(() => {
    view.draw = false;
    if (view.paused) {
      $("pause").textContent = view.held > 0 ? `Resume (${view.held} new)` : "Resume";
      return;
    }
    drawAlerts();
    drawCandidates();
  });
}

function fresh() {
  const cut = Date.now() - view.lastEvent > STALE_MS;
  document.body.classList.toggle("stale", cut);
  $("phase").hidden = $("health").hidden = cut; // not known
  const text = cut ? `stale since ${when(new Date(view.lastEvent))}` : "connected";
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
      seen.ids.clear();
      seen.candidates = [];
      redraw();
    }
    fetch("/api/state").then((answer) => answer.json()).then((state) => {
      seen.samples = state.history;
      seen.state = state;
      drawState();
      refreshOpen(state);
    }).catch(() => {});
  });
  on("state", (state) => {
    seen.state = state;
    seen.samples.push({ uptime: state.uptime, read: state.read, replayed: state.replayed, lag: state.lag_records });
    if (seen.samples.length > HISTORY) seen.samples.shift();
    if (!view.paused) {
      drawState();
      refreshOpen(state);
    }
  });
  on("alert", (alert) => {
    if (seen.ids.has(alert.id)) return;
    seen.ids.add(alert.id);
    seen.alerts.unshift(alert);
    while (seen.alerts.length > KEPT) seen.ids.delete(seen.alerts.pop().id);
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
  $("pause").textContent = view.paused ? "Resume" : "Pause";
  if (!view.paused) {
    drawState();
    redraw();
  }
});
$("more").addEventListener("click", () => { view.shown += MORE; drawAlerts(); });
$("open-more").addEventListener("click", () => { view.openShown += MORE; drawOpen(); });
const filtered = () => {
  [view.shown, view.openShown] = [SHOWN, OPEN_SHOWN];
  history.replaceState(null, "", address());
  for (const id of ["alerts", "open"]) $(id).replaceChildren(); // their links hold the filters
  drawAlerts();
};
$("filters").addEventListener("input", filtered);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(filtered));
$("key-close").addEventListener("click", close);
$("key").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
addEventListener("popstate", () => { read(); drawAlerts(); drawKey(view.open); });
addEventListener("resize", () => { drawState(); redrawKey(); });
setInterval(fresh, 1000);
// Not while an answer is still to come: a slow one would never be shown.
setInterval(() => { if (view.open && !view.paused && !document.hidden && !isAsking()) drawKey(view.open); }, 5000);

read();
drawAlerts();
drawKey(view.open);
listen();
