// Looks at the page of a monitor in Chromium, as a person does, and prints what there is as JSON.
// usage: node monitor.mjs CHROMIUM URL AXE look         on a phone and wide, light and dark, by keyboard, and without scripts
//        node monitor.mjs CHROMIUM URL AXE live FILE    what changes while it is open; FILE is written when it is
//        node monitor.mjs CHROMIUM URL AXE token TOKEN  with the token as the password that the browser asks for
import { readFile, writeFile } from "node:fs/promises";
import puppeteer from "puppeteer-core";

const [executablePath, root, axe, mode, given] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const found = [];
const told = {};

// The page's policy stays in force: nothing here is let in by it, and so nothing waits by a script of the page's.
const until = async (holds) => {
  for (let waited = 0; waited < 120000; waited += 50) {
    const held = await holds().catch(() => false); // in the middle of a navigation
    if (held) return held;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never so: ${holds}`);
};

const opened = async (settings = {}) => {
  const page = await browser.newPage();
  const say = (what) => found.push(`${JSON.stringify(settings)}: ${what}`);
  page.on("console", (message) => ["error", "warn"].includes(message.type()) && settings.quiet !== false && say(`console: ${message.text()}`));
  page.on("pageerror", (error) => say(error.message));
  page.on("dialog", (dialog) => say(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("request", (request) => request.url().startsWith(root) || say(`fetches ${request.url()}`));
  const wide = settings.width ?? 1280;
  await page.setViewport({ width: wide, height: 812, isMobile: wide < 500, hasTouch: wide < 500 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: settings.scheme ?? "light" }]);
  if (settings.password) await page.authenticate({ username: "anybody", password: settings.password });
  if (settings.scripts === false) await page.setJavaScriptEnabled(false);
  await page.goto(root + (settings.path ?? "/"), { waitUntil: "load" });
  return page;
};

const shown = (page) =>
  page.evaluate(() => {
    const text = (each) => each?.textContent.replace(/\s+/g, " ").trim() ?? null;
    const fields = (row) => [...row.querySelectorAll("[data-field]")].map((each) => [each.dataset.field, text(each)]);
    return {
      title: document.title,
      verdict: text(document.getElementById("verdict")),
      all: text(document.getElementById("page")),
      queues: [...document.querySelectorAll("tr[data-role]")].map((row) => ({ ...row.dataset, ...Object.fromEntries(fields(row)) })),
      alarms: [...document.querySelectorAll(".alarms div")].map((each) => ({
        code: text(each.querySelector("h3")),
        said: [...each.querySelectorAll("li")].map(text),
      })),
      letters: [...document.querySelectorAll("[data-number]")].map((each) => ({ number: Number(each.dataset.number), said: text(each) })),
      broadcasts: [...document.querySelectorAll(".broadcasts li")].map(text),
      chart: [...document.querySelectorAll(".waits")].map((each) => [each.dataset.to, text(each)]),
      images: document.querySelectorAll("img").length,
    };
  });

if (mode === "look") {
  told.shown = {};
  for (const width of [375, 1280])
    for (const scheme of ["light", "dark"])
      for (const path of ["/", "/?role=cto", "/?state=idle"]) {
        const page = await opened({ width, scheme, path });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (over > 0) found.push(`${path} is ${over} pixels too wide for ${width}`);
        await page.evaluate(await readFile(axe, "utf8"));
        const judged = await page.evaluate(() => window.axe.run(document));
        told.rules = judged.passes.length;
        for (const each of judged.violations)
          found.push(`${path} ${width} ${scheme}: ${each.id}: ${each.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
        told.shown[`${path} ${width} ${scheme}`] = await shown(page);
        await page.close();
      }
  const page = await opened({ width: 375 });
  const reach = await page.evaluate(() => [...document.querySelectorAll("a[href], [tabindex='0']")].map((each) => each.id || each.className));
  const reached = [];
  for (const _ of reach) {
    await page.keyboard.press("Tab");
    const here = await page.evaluate(() => {
      const each = document.activeElement;
      return { name: each.id || each.className, outline: getComputedStyle(each).outlineStyle };
    });
    reached.push(here.name);
    if (here.outline === "none") found.push(`${here.name} has the focus, and one does not see it`);
  }
  told.keyboard = [reach, reached];
  await page.close();
  const bare = await opened({ width: 375, scripts: false });
  told.without = await shown(bare);
  let loads = 0;
  bare.on("domcontentloaded", () => (loads += 1));
  await until(async () => loads > 1);
  told.again = await shown(bare);
}

if (mode === "live") {
  const page = await opened({ width: 375, quiet: false }); // the monitor ends, and the browser says so
  let loads = 0;
  page.on("domcontentloaded", () => (loads += 1));
  const where = () => page.evaluate(() => ({ focused: document.activeElement.id, top: Math.round(document.activeElement.getBoundingClientRect().top) }));
  await page.evaluate(() => {
    const link = [...document.querySelectorAll("th a")].at(-1);
    link.focus();
    window.scrollTo(0, window.scrollY + link.getBoundingClientRect().top - 100);
  });
  const place = await where();
  const before = await shown(page);
  const reading = () => page.evaluate(() => Number(document.getElementById("page").dataset.reading));
  // What somebody marks, to copy it, is left alone.
  await page.evaluate(() => document.getSelection().selectAllChildren(document.querySelector("code")));
  const marked = await reading();
  const other = await opened({ quiet: false });
  const newer = () => other.evaluate(() => Number(document.getElementById("page").dataset.reading));
  await until(async () => (await newer()) > marked + 2);
  if ((await reading()) !== marked) found.push("what was marked is gone");
  await other.close();
  await page.evaluate(() => document.getSelection().removeAllRanges());
  await until(async () => (await reading()) > marked);
  // A mark is there until the next reading, which may come before anybody looks.
  await page.evaluate(() => {
    window.marked = new Set();
    const look = () => document.querySelectorAll(".new[data-number]").forEach((each) => window.marked.add(Number(each.dataset.number)));
    new MutationObserver(look).observe(document.body, { attributes: true, childList: true, subtree: true });
  });
  await writeFile(given, "opened");
  const letters = () => page.$$eval("[data-number]", (all) => all.map((each) => Number(each.dataset.number)));
  await until(async () => (await letters()).length > before.letters.length);
  told.arrived = await shown(page);
  told.marked_as_new = await page.evaluate(() => [...window.marked]);
  const after = await where();
  if (JSON.stringify(after) !== JSON.stringify(place)) found.push(`one was at ${JSON.stringify(place)}, and is at ${JSON.stringify(after)}`);
  await writeFile(given, "arrived");
  await until(async () => (await shown(page)).verdict === "The server cannot be read");
  told.unreadable = await shown(page);
  told.announced = await page.$eval("#announced", (each) => each.textContent);
  await writeFile(given, "unreadable");
  told.away = await until(() => page.$eval("#away", (each) => !each.hidden && each.textContent));
  if (loads) found.push(`it was loaded again, ${loads} times`);
}

if (mode === "token") {
  const page = await opened({ password: given, quiet: false }); // the first answer is a refusal
  const reading = () => page.$eval("#page", (each) => Number(each.dataset.reading));
  const first = await reading();
  await until(async () => (await reading()) > first + 1);
  told.shown = await shown(page);
}

await browser.close();
process.stdout.write(JSON.stringify({ found, ...told }));
