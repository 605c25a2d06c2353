// The page in a browser, against a live run. The test in tests/stack/web.rs starts this and answers its requests: each is a
// line `name argument`, each answer a line of JSON.
//
//   node tests/web/page.mjs URL FOLDER_WITH_NODE_MODULES [FOLDER_FOR_SCREENSHOTS]

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { isDeepStrictEqual } from "node:util";
import { filled } from "./filled.mjs";

const [served, modules, shots] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function ask(name, argument = "") {
  console.log(`${name} ${argument.replaceAll("\n", " ")}`);
  const { value, done } = await answers.next();
  assert(!done, `no answer to ${name}`);
  return JSON.parse(value);
}
const sql = (text) => ask("sql", text);
const insert = (user, amount) => sql(`INSERT INTO streaming.transactions (user_id, amount) VALUES (${user}, ${amount})`);

// The network between browser and run, as long as it is "whole". It can be "cut", or answer by itself as a proxy does whose
// server is away ("bad gateway"): then what was open breaks as well.
const network = { is: "whole", sockets: new Set() };
const between = createServer((near) => {
  if (network.is === "cut") return near.destroy();
  if (network.is === "bad gateway") {
    near.on("error", () => {}).resume();
    return near.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  }
  const far = connect(new URL(served).port, "127.0.0.1");
  for (const [socket, other] of [[near, far], [far, near]]) {
    network.sockets.add(socket);
    socket.on("error", () => {}).on("close", () => { other.destroy(); network.sockets.delete(socket); });
    socket.pipe(other);
  }
});
await new Promise((ready) => between.listen(0, "127.0.0.1", ready));
const url = `http://127.0.0.1:${between.address().port}`;
function networkIs(is) {
  network.is = is;
  if (is !== "whole") for (const socket of network.sockets) socket.destroy();
}

setTimeout(() => {
  console.error("page: not done within five minutes");
  process.exit(1);
}, 300000).unref();

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, colorScheme: "light" });
  // Each stream says whether it goes on from where the one before was cut.
  await context.addInitScript(() => {
    globalThis.hellos = [];
    globalThis.EventSource = class extends EventSource {
      constructor(...how) {
        super(...how);
        this.addEventListener("hello", (event) => globalThis.hellos.push(JSON.parse(event.data)));
      }
    };
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  const wrong = [];
  let expectsErrors = false;
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expectsErrors) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`script: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) wrong.push(`a request elsewhere: ${request.url()}`);
  });

  const rows = (user) => page.locator("#alerts tr", { hasText: `User ${user} ` });
  const shotOn = async (on, name) => {
    if (shots) await on.screenshot({ path: `${shots}/${name}.png` });
  };
  const shot = (name) => shotOn(page, name);
  const accessibleOn = async (on, where) => {
    await on.evaluate(axe);
    const found = await on.evaluate(async () => (await globalThis.axe.run()).violations);
    const bad = found.filter((violation) => ["serious", "critical"].includes(violation.impact));
    const told = bad.map((v) => `${v.id} (${v.impact}): ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join("; ")}`);
    assert.deepEqual(told, [], `axe, ${where}`);
  };
  const accessible = (where) => accessibleOn(page, where);
  /** Until a look gives what is wanted; the page follows its run within a second. */
  const becomes = async (what, look, want) => {
    const deadline = Date.now() + 15000;
    let got;
    do {
      got = await look();
      if (isDeepStrictEqual(got, want)) return;
      await page.evaluate(() => new Promise(requestAnimationFrame));
    } while (Date.now() < deadline);
    assert.deepEqual(got, want, what);
  };
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const step = (text) => console.error(`page: ${text}`);

  step("an alert appears without reload");
  await page.goto(url);
  await page.locator("#phase", { hasText: "working" }).waitFor();
  await page.locator("#stream", { hasText: "connected" }).waitFor();
  await page.evaluate(() => { globalThis.loadedOnce = true; });
  assert.equal(await page.locator("#alerts tr").count(), 0);
  for (const amount of ["1200.50", "1200.50", "-700.25"]) await insert(27956157, amount);
  await insert(27956158, "12.00");
  await rows(27956157).waitFor();
  assert.equal(await page.evaluate(() => globalThis.loadedOnce), true, "the page was loaded again");
  assert.match(await rows(27956157).innerText(), /firing\s+critical\s+weekly-spend\s+User 27956157 \(\$3,101\.25\)/);
  await page.locator("#candidates li", { hasText: "27956157" }).first().waitFor();
  const near = (id, key) => page.locator(`#${id} li`, { hasText: key });
  await near("approaching", "27956158").waitFor();
  await near("over", "27956157").waitFor();
  assert.equal(await near("over", "27956158").count() + await near("approaching", "27956157").count(), 0);
  assert.match(await near("over", "27956157").innerText(), /27956157 weekly-spend\s+3,101\.25 \/ 3,000/);
  const opened = (user) => page.locator("#open tr", { hasText: `User ${user} ` });
  await opened(27956157).waitFor();
  await becomes("all that is open is listed", () => page.locator("#open-count").innerText(), "1");
  assert.match(await opened(27956157).innerText(), /critical\s+weekly-spend\s+27956157\s+User 27956157 \(\$3,101\.25\)/);
  const heads = await page.locator("#alerts-table th").allInnerTexts();
  assert.equal(heads.at(-1), "confirmation latency");

  step("the health strip is /readyz");
  const readyz = async (of) => (await (await fetch(`${of}/readyz`)).text()).trim().split("\n");
  const strip = (on) => on.locator("#health").evaluate((health) => [...health.querySelectorAll("strong, li")].map((line) => line.textContent));
  assert.deepEqual(await readyz(url), ["ready"]);
  await becomes("ready", () => strip(page), ["ready"]);
  const paused = await ask("paused"); // another run, whose windows are full
  const other = await context.newPage();
  await other.goto(paused);
  await becomes("not ready", () => strip(other), ["not ready", "reading pauses: limits.max_rows is reached"]);
  assert.deepEqual(await readyz(paused), ["not ready", "reading pauses: limits.max_rows is reached"]);
  await other.close();

  step("the numbers are those of the run");
  const one = async (query) => (await sql(query))[0][0];
  const tiles = () => page.locator("#tiles > div").evaluateAll((all) => Object.fromEntries(all.map((tile) => {
    const note = tile.querySelector("small")?.textContent ?? "";
    return [tile.querySelector("dt").textContent, [tile.querySelector("dd").textContent.slice(0, -note.length || undefined), note]];
  })));
  const tile = async (name) => (await tiles())[name];
  assert.deepEqual(Object.keys(await tiles()), ["events per second", "consumer lag", "candidates", "confirmed", "alerts", "alert latency", "keys", "memory"]);
  const [records, users] = [await one("SELECT count(*) FROM streaming.transactions"), await one("SELECT count(DISTINCT user_id) FROM streaming.transactions")];
  await becomes("all of the topic is read", async () => (await tile("events per second"))[1], `${records} read`);
  await becomes("nothing is left to be read", () => tile("consumer lag"), ["0", "caught up"]);
  await becomes("rows and keys are those of the table", () => tile("keys"), [users, `${records} rows`]);
  await becomes("one alert, and one key that is over", () => tile("alerts"), ["1", "1 open"]);
  await becomes("one candidate", () => tile("candidates"), ["1", "0 waiting"]);
  await becomes("it was confirmed", () => tile("confirmed"), ["1", "0 refuted, 0 undecided"]);
  assert.match((await tile("alert latency"))[0], /^≤ \d+(\.\d+)? (ms|s)$/);
  assert.match((await tile("memory"))[0], /^[1-9]\d* MiB$/);

  step("the charts tell what they show");
  for (const [id, label] of [["rate", /^Events per second, now \d/], ["lag", /^Consumer lag in records, now 0$/]]) {
    const drawn = page.locator(`#${id} svg[role=img]`);
    await becomes(`${id} is labelled`, async () => label.test(await drawn.getAttribute("aria-label")), true);
    await becomes(`${id} has a scale`, async () => await drawn.locator(".grid").count() >= 2, true);
    await becomes(`${id} has a line`, async () => (await drawn.locator("path.line").getAttribute("d")).length > 10, true);
    assert(await page.getByRole("img", { name: label }).isVisible());
  }

  step("the rule is there, and its query says who is over");
  const rule = page.locator("#rules details");
  assert.equal(await rule.count(), 1);
  assert.equal(await rule.locator(".title").innerText(), "weekly-spend");
  assert.equal(await rule.locator("pre").isVisible(), true, "a rule that is alone is unfolded");
  await rule.locator("summary").click();
  assert.equal(await rule.locator("pre").isVisible(), false);
  await rule.locator("summary").click();
  const query = await rule.locator("pre").innerText();
  assert.match(query, /SUM\(ABS\(.*HAVING/is);
  assert.deepEqual((await sql(query)).map(([user]) => user), ["27956157"]);
  await becomes("it has fired once", () => rule.locator("p.quiet").innerText(), "critical; 1 open, 1 fired, 0 resolved");

  step("both layers have the offsets that the page shows");
  const progress = async () => {
    const cells = await page.locator("#offsets tr").evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
    return [...cells, (await page.locator("#epoch").innerText()).replace(/:[^:]*$/, "")];
  };
  const same = async (what) => {
    await becomes(`${what}: all is committed`, async () => (await ask("offsets")).group, Number(records));
    const { end, folder, group, epoch, name } = await ask("offsets");
    await becomes(what, progress, [["0", end, end, folder, group].map(String), `Epoch ${epoch}, committed as ${name}`]);
  };
  await same("after an alert");

  step("the drill-down equals SQL");
  await rows(27956157).locator("a").click();
  const total = async () => page.locator("#key-total").getAttribute("data-total");
  const summed = async () => (await sql("SELECT SUM(ABS(amount)) FROM streaming.transactions WHERE timestamp >= NOW() - INTERVAL '7 days' AND user_id = 27956157"))[0][0];
  await page.locator("#key-chart svg .point.firing").waitFor();
  assert.equal(await total(), await summed());
  assert.match(await page.locator("#key-chart svg").getAttribute("aria-label"), /27956157.*3101\.25.*threshold 3000, 1 confirmed/);
  assert.equal(await page.evaluate(() => document.activeElement?.id), "key-heading");
  await insert(27956157, "0.75");
  await page.locator("#key-total[data-total='3102.00']").waitFor(); // it follows by itself
  assert.equal(await total(), await summed());
  await accessible("light, with a key open");
  await shot("light");

  step("both themes");
  const light = await background();
  const theme = page.locator("#theme");
  await theme.click();
  assert.equal(await background(), light, "light by hand");
  await theme.click();
  const dark = await background();
  assert.notEqual(dark, light, "dark by hand");
  await accessible("dark, with a key open");
  await shot("dark");
  await page.reload();
  assert.equal(await background(), dark, "dark after a reload");
  await theme.click();
  assert.equal(await background(), light, "as the system has it: light");
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await background(), dark, "as the system has it: dark");
  await page.emulateMedia({ colorScheme: "light" });

  step("by keyboard");
  await page.locator("#key-total").waitFor(); // what was open is open after the reload
  await page.locator("#key-close").focus();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#key").isVisible(), false);
  await page.locator("#filters input").focus();
  await page.keyboard.type("27956159");
  assert.equal(await page.locator("#alerts tr").count(), 0);
  assert.equal(await page.locator("#none").innerText(), "No alert fits these filters.");

  step("filters survive a reload");
  for (const amount of ["2000", "2000"]) await insert(27956159, amount);
  await rows(27956159).waitFor();
  await page.locator("#filters button[type=reset]").evaluate((button) => button.form.reset());
  await rows(27956157).locator("a").focus();
  for (const amount of ["2000", "2000"]) await insert(27956162, amount);
  await rows(27956162).waitFor();
  assert.match(await page.evaluate(() => document.activeElement.textContent), /27956157/, "a new alert takes the focus away");
  await page.locator("#filters input").fill("27956159");
  await page.locator("#filters select[name=status]").selectOption("firing");
  assert.equal(await page.locator("#alerts tr").count(), 1);
  await page.reload();
  await rows(27956159).waitFor();
  assert.equal(await page.locator("#alerts tr").count(), 1);
  assert.equal(await page.locator("#filters input").inputValue(), "27956159");
  assert.equal(await page.locator("#filters select[name=status]").inputValue(), "firing");
  await page.locator("#filters button[type=reset]").click();
  await rows(27956157).waitFor();
  assert.equal(new URL(page.url()).search, "");

  step("filters in use, dark");
  await page.locator("#filters input").fill("27956159");
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await page.locator("#key").isVisible(), false);
  assert.equal(await page.locator("#alerts tr").count(), 1);
  await accessible("dark, with filters in use");
  await page.locator("#filters input").fill("nobody");
  assert.equal(await page.locator("#alerts tr").count(), 0);
  await accessible("dark, where no alert fits the filters");
  await page.emulateMedia({ colorScheme: "light" });
  await page.locator("#filters button[type=reset]").click();
  await rows(27956157).waitFor();

  step("a key that a browser would round");
  for (const amount of ["2000", "2000"]) await insert("9007199254740993", amount);
  await rows("9007199254740993").locator("a").click();
  await page.locator("#key-total[data-total='4000.00']").waitFor();
  assert.match(await page.locator("#key-heading").innerText(), /9007199254740993/);
  await page.reload(); // by the address alone
  await page.locator("#key-total[data-total='4000.00']").waitFor();
  await page.locator("#key-close").click();
  await page.locator("#filters input").fill("9007199254740993");
  assert.equal(await page.locator("#alerts tr").count(), 1);
  await page.locator("#filters button[type=reset]").click();
  await rows(27956157).waitFor();

  step("pause");
  await page.locator("#pause").click();
  for (const amount of ["2000", "2000"]) await insert(27956160, amount);
  await page.locator("#pause", { hasText: "1 new" }).waitFor();
  assert.equal(await rows(27956160).count(), 0);
  await page.locator("#pause").click();
  await rows(27956160).waitFor();
  for (const width of [1440, 800, 390]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await accessible(`${colorScheme}, ${width} px wide`);
      await shot(`${width}-${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1400, height: 1000 });
  assert.deepEqual(wrong, []);

  expectsErrors = true;
  const texts = (where) => page.locator(where).evaluateAll((all) => all.map((row) => row.textContent));
  for (const [is, one, two] of [["cut", 27956163, 27956164], ["bad gateway", 27956165, 27956166]]) {
    step(`the network in mid-stream: ${is}`);
    const before = { "#alerts tr": await texts("#alerts tr"), "#candidates li": await texts("#candidates li") };
    const streams = await page.evaluate(() => globalThis.hellos.length);
    networkIs(is);
    for (const user of [one, two]) {
      await insert(user, "3500");
      await ask("told", String(user));
    }
    await page.locator("#stream", { hasText: /stale since/ }).waitFor();
    assert.deepEqual(await texts("#alerts tr"), before["#alerts tr"]);
    networkIs("whole");
    for (const user of [one, two]) await rows(user).waitFor({ timeout: 30000 });
    await page.locator("#stream", { hasText: "connected" }).waitFor();
    const hellos = (await page.evaluate(() => globalThis.hellos)).slice(streams);
    assert(hellos.length > 0 && hellos.every((hello) => hello.resumed), `it began anew: ${JSON.stringify(hellos)}`);
    // What was there is there once, what came meanwhile is there once, and nothing else.
    for (const [where, known] of Object.entries(before)) {
      const now = await texts(where);
      assert.deepEqual(now.slice(now.length - known.length), known, `${where} as before`);
      const came = now.slice(0, now.length - known.length).map((text) => text.match(/27956\d{3}/)?.[0] ?? text);
      assert.deepEqual(came, [String(two), String(one)], where);
    }
  }
  await insert(27956167, "3500");
  await rows(27956167).waitFor();
  assert.equal(await rows(27956167).count(), 1);

  step("the run ends, and another one takes its place");
  await ask("stop");
  await page.locator("#stream", { hasText: /stale since .*\d\d:\d\d:\d\d/ }).waitFor();
  await accessible("a stale page");
  await shot("stale");
  await ask("start");
  await page.locator("#stream", { hasText: "connected" }).waitFor({ timeout: 30000 });
  await page.locator("#phase", { hasText: "working" }).waitFor({ timeout: 30000 });
  // What is open is there before anything happens; the messages are the table's, since another process delivered them.
  for (const user of [27956157, 27956159, 27956162, 27956167]) await opened(user).waitFor();
  assert.equal(await page.locator("#alerts tr").count(), 0);
  assert.match(await opened(27956159).innerText(), /critical\s+weekly-spend\s+27956159\s+User 27956159 \(\$4,000\.00\)/);
  for (const amount of ["2000", "2000"]) await insert(27956161, amount);
  await rows(27956161).waitFor();
  await opened(27956161).waitFor();
  assert.match(await page.locator("#open tr").first().innerText(), /27956161/, "the newest is first");
  assert.deepEqual(wrong, []);
  await filled(await context.newPage(), url, { accessible: accessibleOn, shot: shotOn, step });
  console.log("passed");
} finally {
  await browser.close();
  between.close();
  networkIs("cut");
  process.stdin.destroy(); // it would be waited for
}
