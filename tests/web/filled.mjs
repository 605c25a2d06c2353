// The page with 20 rules, 2,000 alerts and 60 open episodes, of which the answers are made up here: what it shows of so much,
// and how fast. Everything else about it is tested on a live run, by page.mjs.

import assert from "node:assert/strict";

const RULES = 20, ALERTS = 2000, OPEN = 60, DAY = 86400000;
const iso = (at) => new Date(at).toISOString();
const ruleName = (index) => `rule-${String(index + 1).padStart(2, "0")}-spend-of-a-week-by-merchant-and-country`.slice(0, index % 3 === 0 ? 44 : 13);

function answers() {
  const now = Date.now();
  const severity = (n) => ["critical", "warning", "info"][n % 3];
  const rules = Array.from({ length: RULES }, (_, n) => ({
    name: ruleName(n), version: "1", severity: severity(n), having: "SUM(ABS(amount)) > 3000", comparison: ">", threshold: "3000",
    key: ["user_id"], sql: "SELECT user_id, SUM(ABS(amount)) AS total\nFROM streaming.transactions\nWHERE timestamp >= NOW() - INTERVAL '7 days'\nGROUP BY user_id\nHAVING SUM(ABS(amount)) > 3000",
    confirmed_by_postgres: true, event_time: false, open: OPEN / RULES, fired: 60, resolved: 40,
    counts: { candidates: 110, confirmed: 100, refuted: 8, undecided: 2, failed: 0 },
  }));
  // Every rule has one key that is over and one that is not; the last rule has those that are furthest on.
  const top = rules.flatMap((rule, n) => [
    { rule: rule.name, key: { user_id: 100 + n }, label: String(100 + n), total: `${3100 + n}.50`, threshold: "3000", over: true, rows: 3 },
    { rule: rule.name, key: { user_id: 200 + n }, label: String(200 + n), total: `${2000 + n}.25`, threshold: "3000", over: false, rows: 3 },
  ]);
  const history = Array.from({ length: 300 }, (_, n) => ({ uptime: n * 1000, read: n * 900 + (n % 7) * 40, replayed: 0, lag: (n * 37) % 90 }));
  const state = {
    phase: "working", group: "monitor", topic: "postgres.streaming.transactions", uptime: 300000, read: 270000, replayed: 0, rejected: { json: 3 },
    rules, partitions: Object.fromEntries(Array.from({ length: 6 }, (_, n) => [n, { next: 45000 + n, end: 45010 + n, logged: 44990, committed: 44990 }])),
    lag_millis: 900, rows: 1234567, keys: 98765, waiting: 2, resident_mb: 812, epoch: { number: 4711, lineage: "l", name: "01998877665544332211:4711:abcdef", at: 0 },
    checkpoint_age: 700, top, open_lists: 1, run: "made-up", problems: [], lag_records: 60, delay_quantiles: [25000, 250000, 500000], history,
  };
  const alerts = Array.from({ length: ALERTS }, (_, n) => ({
    id: `alert-${n}`, rule: ruleName(n % RULES), status: n % 5 === 4 ? "resolved" : "firing", severity: severity(n % RULES), key: { user_id: 1000 + n },
    message: `User ${1000 + n} spent $${3000 + n}.50 within seven days`, emitted_at: iso(now - (ALERTS - n) * 61000), confirmation: { required: true, ms: 3 + (n % 40) },
  }));
  const open = Array.from({ length: OPEN }, (_, n) => ({
    rule: ruleName(n % RULES), severity: severity(n % RULES), key: { user_id: 100 + n }, label: String(100 + n), since: iso(now - n * 600000), alert: `open-${n}`,
    message: n === 3 ? null : `User ${100 + n} spent $${3100 + n}.50 within seven days`,
  }));
  // All in the last hour, but for one row of five days ago.
  const points = Array.from({ length: 40 }, (_, n) => ({
    pk: String(n), at: (n === 0 ? now - 5 * DAY : now - 3600000 + n * 80000) * 1000, value: "100.00", total: `${(n + 1) * 100}.00`,
  }));
  const crossed = now - 3600000 + 30 * 80000;
  const key = {
    rule: ruleName(0), key: { user_id: 100 }, having: "SUM(ABS(amount)) > 3000", threshold: "3000", comparison: ">", measure: "total",
    trace: { from: (now - 7 * DAY) * 1000, to: now * 1000, rows: 40, total: "4000.00", points },
    confirmed: [{ id: "open-0", status: "firing", message: "User 100", at: iso(crossed), total: "3100.00" }],
  };
  return { state, alerts, open, key };
}

/** `accessible` and `shot` as in page.mjs. */
export async function filled(page, url, { accessible, shot, step }) {
  const made = answers();
  const json = (body) => ({ contentType: "application/json", body: JSON.stringify(body) });
  await page.route("**/api/state", (route) => route.fulfill(json(made.state)));
  await page.route("**/api/open", (route) => route.fulfill(json({ run: "made-up", list: 1, open: made.open })));
  await page.route("**/api/key?*", (route) => route.fulfill(json(made.key)));
  const { history, ...numbers } = made.state;
  const events = [["hello", { run: "made-up", resumed: false }], ...made.alerts.map((alert) => ["alert", alert]), ["state", numbers]];
  const stream = (all) => `retry: 1000\n${all.map(([name, data], n) => `id: made-up.${n}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`).join("")}`;
  // Each stream ends at once; the next one goes on from it.
  const bodies = [stream(events), stream([["hello", { run: "made-up", resumed: true }], ["state", numbers]])];
  await page.route("**/api/events*", (route) => route.fulfill({ contentType: "text/event-stream", body: bodies.length > 1 ? bodies.shift() : bodies[0] }));

  step("2,000 alerts and 20 rules");
  await page.setViewportSize({ width: 1440, height: 1000 });
  await page.goto(url);
  await page.locator("#alerts-count", { hasText: /^2,000/ }).waitFor();
  await page.locator("#open-count", { hasText: "60" }).waitFor();
  const count = (where) => page.locator(where).count();
  assert.equal(await page.locator("#alerts-count").innerText(), "2,000, the newest 50 shown");
  assert.equal(await count("#alerts tr"), 50);
  assert.match(await page.locator("#alerts tr").first().innerText(), /User 2999 /);
  await page.locator("#more").click();
  assert.equal(await count("#alerts tr"), 250);
  assert.equal(await page.locator("#more").innerText(), "Show 200 more");
  // Time that the script takes to find some among all of them and to show them.
  const took = await page.evaluate(() => {
    const field = document.querySelector("#filters input");
    const began = performance.now();
    for (const text of ["2", "29", "299", "2999", ""]) {
      field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      document.body.getBoundingClientRect();
    }
    return (performance.now() - began) / 5;
  });
  console.error(`page: a filter over 2,000 alerts takes ${took.toFixed(1)} ms`);
  assert.equal(await count("#alerts tr"), 50, "a filter begins at the newest again");
  // What is measured is found and measured in one step: the page replaces its rows and charts at any moment, and an element that was
  // replaced has no place and no style.
  const high = await page.evaluate(() => {
    const rules = document.querySelector("#rules");
    return rules.getBoundingClientRect().height / rules.children.length;
  });
  assert.equal(await count("#rules details"), RULES);
  assert.equal(await count("#rules details[open]"), 0);
  assert(high < 40, `a folded rule is ${high} px high`);

  step("what is open is first");
  const [openAt, alertsAt] = await page.evaluate(() => ["#open tr", "#alerts tr"].map((row) => document.querySelector(row).getBoundingClientRect().top));
  assert(openAt < alertsAt, `${openAt} ${alertsAt}`);
  assert.equal(await count("#open tr"), 10);
  const first = await page.locator("#open tr").first().innerText();
  for (const text of [ruleName(0), "100", "User 100 spent $3100.50 within seven days"]) assert(first.includes(text), `${text}: ${first}`);
  assert.match(await page.locator("#open tr").nth(3).innerText(), /alerted by an earlier process/);
  await page.locator("#open-more").click();
  assert.equal(await count("#open tr"), OPEN);

  step("over and approaching");
  const keys = (id) => page.evaluate((id) => [...document.querySelectorAll(`#${id} li`)].map((item) => [item.querySelector("a").textContent, item.querySelector(".rule").textContent]), id);
  const [over, approaching] = [await keys("over"), await keys("approaching")];
  assert.equal(over.length, 8);
  assert.deepEqual(over[0], ["119", ruleName(19)], "the one that is furthest over");
  assert.deepEqual(approaching[0], ["219", ruleName(19)], "the one that is nearest");
  assert(over.every(([key]) => key < 200) && approaching.every(([key]) => key >= 200), `${over} ${approaching}`);

  step("a week whose rows are of the last hour");
  await page.locator("#over a").first().click();
  const chart = page.locator("#key-chart svg");
  await chart.locator(".point.firing").waitFor();
  /** Which part of the chart's width the rows of the last hour have. */
  const share = () => page.evaluate(() => {
    const svg = document.querySelector("#key-chart svg");
    const [, , width] = svg.getAttribute("viewBox").split(" ").map(Number);
    const steps = [...svg.querySelector(".line").getAttribute("d").matchAll(/H([\d.]+)/g)].map(([, x]) => Number(x));
    return (steps.at(-1) - steps.at(-40)) / width;
  });
  assert(await share() > 0.7, `zoomed: ${await share()}`);
  assert.match(await chart.getAttribute("aria-label"), /drawn from .*: 1 earlier rows are in the total/);
  const zoom = page.locator("#key-zoom");
  await zoom.click();
  assert.equal(await zoom.getAttribute("aria-pressed"), "true");
  assert(await share() < 0.05 && !(await chart.getAttribute("aria-label")).includes("drawn from"));
  await zoom.click();
  assert(await share() > 0.7);

  for (const width of [1440, 800, 390]) {
    step(`${width} px wide`);
    await page.setViewportSize({ width, height: 1000 });
    await page.evaluate(() => { document.querySelector("#key details").open = true; });
    const wide = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll("body *")]
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 1 && !element.closest("svg"))
      .filter((element) => element === document.documentElement || getComputedStyle(element).overflowX !== "visible")
      .map((element) => `${element.tagName}.${element.className}#${element.id} ${element.scrollWidth} > ${element.clientWidth}`));
    assert.deepEqual(wide, [], "to be scrolled sideways");
    const out = await page.evaluate(() => [...document.querySelectorAll("main *:not(thead, thead *)")]
      .filter((element) => element.getBoundingClientRect().right > document.querySelector(".now").getBoundingClientRect().right + 1)
      .map((element) => `${element.tagName}.${element.className}#${element.id}`));
    assert.deepEqual(out, [], "beyond the right edge");
    if (width === 390) {
      for (const body of ["open", "alerts", "key-rows", "offsets"]) {
        const [display, name] = await page.evaluate((body) => {
          const cell = document.querySelector(`#${body} tr td`);
          return [getComputedStyle(cell.parentElement).display, getComputedStyle(cell, "::before").content];
        }, body);
        assert.equal(display, "block", `${body} are cards`);
        assert.match(name, /"(since|time|partition)"/, `a card of ${body} names its values`);
      }
    }
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      await accessible(page, `filled, ${width} px, ${scheme}`);
      await shot(page, `filled-${width}-${scheme}`);
    }
  }
}
