// The page in a browser, against a live run. The test in tests/stack/web.rs starts this and answers its requests: each is a
// line `name argument`, each answer a line of JSON.
//
//   node tests/web/page.mjs URL FOLDER_WITH_NODE_MODULES [FOLDER_FOR_SCREENSHOTS]

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [url, modules, shots] = process.argv.slice(2);
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

setTimeout(() => {
  console.error("page: not done within two minutes");
  process.exit(1);
}, 120000).unref();

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, colorScheme: "light" });
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
  const shot = async (name) => {
    if (shots) await page.screenshot({ path: `${shots}/${name}.png` });
  };
  const accessible = async (where) => {
    await page.evaluate(axe);
    const found = await page.evaluate(async () => (await globalThis.axe.run()).violations);
    const bad = found.filter((violation) => ["serious", "critical"].includes(violation.impact));
    const told = bad.map((v) => `${v.id} (${v.impact}): ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join("; ")}`);
    assert.deepEqual(told, [], `axe, ${where}`);
  };
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const step = (text) => console.error(`page: ${text}`);

  step("an alert appears without reload");
  await page.goto(url);
  await page.locator("#phase", { hasText: "working" }).waitFor();
  await page.locator("#stream", { hasText: "live" }).waitFor();
  await page.evaluate(() => { globalThis.loadedOnce = true; });
  assert.equal(await page.locator("#alerts tr").count(), 0);
  for (const amount of ["1200.50", "1200.50", "-700.25"]) await insert(27956157, amount);
  await insert(27956158, "12.00");
  await rows(27956157).waitFor();
  assert.equal(await page.evaluate(() => globalThis.loadedOnce), true, "the page was loaded again");
  assert.match(await rows(27956157).innerText(), /firing\s+critical\s+weekly-spend\s+User 27956157 \(\$3,101\.25\)/);
  await page.locator("#candidates li", { hasText: "27956157" }).first().waitFor();
  await page.locator("#top li", { hasText: "27956158" }).waitFor();

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

  step("pause");
  await page.locator("#pause").click();
  for (const amount of ["2000", "2000"]) await insert(27956160, amount);
  await page.locator("#pause", { hasText: "1 new" }).waitFor();
  assert.equal(await rows(27956160).count(), 0);
  await page.locator("#pause").click();
  await rows(27956160).waitFor();
  await accessible("light, a narrow window", await page.setViewportSize({ width: 420, height: 900 }));
  await shot("narrow");
  await page.setViewportSize({ width: 1400, height: 1000 });
  assert.deepEqual(wrong, []);

  step("the stream is cut, and comes back");
  expectsErrors = true;
  await ask("stop");
  await page.locator("#stream", { hasText: /stale since .*\d\d:\d\d:\d\d/ }).waitFor();
  await accessible("a stale page");
  await shot("stale");
  await ask("start");
  await page.locator("#stream", { hasText: "live" }).waitFor({ timeout: 30000 });
  await page.locator("#phase", { hasText: "working" }).waitFor({ timeout: 30000 });
  for (const amount of ["2000", "2000"]) await insert(27956161, amount);
  await rows(27956161).waitFor();
  assert.deepEqual(wrong, []);
  console.log("passed");
} finally {
  await browser.close();
  process.stdin.destroy(); // it would be waited for
}
