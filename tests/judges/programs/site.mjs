// Opens every page of a site in Chromium, wide and as on a phone, and prints what is wrong as JSON.
// usage: node site.mjs CHROMIUM URL PAGES_JSON WORD
import puppeteer from "puppeteer-core";

const [executablePath, root, pages, word] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
const found = [];
let at = "";
page.on("console", (message) => message.type() === "error" && found.push(`${at}: console: ${message.text()}`));
page.on("pageerror", (error) => found.push(`${at}: ${error.message}`));
page.on("requestfailed", (request) => found.push(`${at}: ${request.url()} failed`));
page.on("request", (request) => {
  // The repository's page tells how many stars it has: nothing a reader misses.
  if (!request.url().startsWith(root) && !request.url().startsWith("data:") && !request.url().startsWith("blob:")) found.push(`${at}: fetches ${request.url()}`);
});

const targets = new Map(); // an address, without what follows #, to its anchors
const links = [];
for (at of JSON.parse(pages)) {
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(root + at, { waitUntil: "load" });
  const told = await page.evaluate(() => ({
    ids: [...document.querySelectorAll("[id]")].map((each) => each.id),
    links: [...document.querySelectorAll("a[href]")].map((each) => each.href),
    pictures: document.querySelectorAll("pre.mermaid, div.mermaid").length,
  }));
  if (told.pictures) await page.waitForFunction(() => [...document.querySelectorAll("div.mermaid")].some((each) => each.shadowRoot || each.offsetHeight > 0), { timeout: 60000 });
  targets.set(root + at, new Set(told.ids));
  links.push(...told.links.filter((link) => link.startsWith(root)).map((link) => [at, link]));
  await page.setViewport({ width: 390, height: 844, isMobile: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) found.push(`${at}: ${wide} pixels too wide for a phone`);
}
for (const [from, link] of links) {
  const [address, anchor] = link.split("#");
  const ids = targets.get(address);
  if (!ids) found.push(`${from}: no page ${address}`);
  else if (anchor && !ids.has(decodeURIComponent(anchor))) found.push(`${from}: no anchor ${link}`);
}

at = "search";
await page.setViewport({ width: 1280, height: 900 });
await page.goto(root, { waitUntil: "load" });
await page.click("input.md-search__input");
await page.type("input.md-search__input", word);
await page.waitForSelector(".md-search-result__link", { timeout: 60000 });
const hits = await page.$$eval(".md-search-result__link", (all) => all.map((each) => each.href));
await browser.close();
process.stdout.write(JSON.stringify({ found: [...new Set(found)], hits }));
