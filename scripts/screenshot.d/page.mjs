// A picture of the page with a key open: node page.mjs URL FOLDER_WITH_NODE_MODULES FILE
import { createRequire } from 'node:module';

const [url, folder, file] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/`)('playwright-core');
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  await page.goto(url);
  await page.getByRole('link', { name: /^User \d+ \(\$/ }).first().click();
  await page.getByText('Postgres adds up').waitFor();
  await page.waitForTimeout(6000); // some seconds of throughput to show
  await page.screenshot({ path: file });
} finally {
  await browser.close();
}
