// Takes a newer page when the monitor has read again, and says so when it no longer hears of it. Without this the page reloads itself.
"use strict";
(() => {
  const place = () => document.getElementById("page");
  const away = document.getElementById("away");
  const interval = Number(place().dataset.interval) * 1000;
  let newest = Number(place().dataset.reading);
  let heard = Date.now();
  let asked = 0;
  let ahead = 0; // of our clock before the monitor's
  let busy = false;
  const script = document.querySelector("script[src]").getAttribute("src");

  // What somebody marks, to copy it, is left alone until it is no longer marked.
  const isSelecting = () => {
    const selected = document.getSelection();
    return Boolean(selected && !selected.isCollapsed && place().contains(selected.anchorNode));
  };

  const rows = () => [...place().querySelectorAll("[data-key]")];

  // What one reads stays where it is on the screen, whatever comes above it: what has the focus, or else most of the rows that one
  // sees, since a row may get another place in the order. Who is at the top sees what comes.
  const anchored = () => {
    const top = (each) => each.getBoundingClientRect().top;
    const isSeen = (each) => window.scrollY && top(each) >= 0 && top(each) < window.innerHeight;
    const focused = place().contains(document.activeElement) && isSeen(document.activeElement) ? document.activeElement : null;
    const name = (each) => (focused ? each.id : each.dataset.key);
    const all = () => (focused ? [document.getElementById(focused.id)].filter(Boolean) : rows());
    const before = new Map(all().filter(isSeen).map((each) => [name(each), top(each)]));
    const down = window.scrollY;
    return () => {
      window.scrollTo(0, down);
      const same = all().filter((each) => before.has(name(each)));
      const shifts = same.map((each) => top(each) - before.get(name(each))).sort((one, other) => one - other);
      window.scrollBy(0, shifts[Math.floor(shifts.length / 2)] ?? 0);
    };
  };

  // Everything is another element now: where the focus was is found again by its id.
  const put = (page) => {
    const old = place();
    const keys = new Set(rows().map((each) => each.dataset.key));
    const back = anchored();
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const sideways = document.getElementById("drawing")?.scrollLeft;
    const verdict = document.getElementById("verdict").textContent.trim();
    old.replaceWith(document.adoptNode(page.getElementById("page")));
    showAge(); // which may take one more line
    document.title = page.title;
    document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").href;
    if (sideways) document.getElementById("drawing")?.scrollTo(sideways, 0);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    back();
    rows().forEach((each) => keys.has(each.dataset.key) || each.classList.add("new"));
    const now = document.getElementById("verdict").textContent.trim();
    if (now !== verdict) document.getElementById("announced").textContent = now;
  };

  const reading = () => Number(place().dataset.reading);

  const take = async () => {
    if (busy || isSelecting()) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        heard = Date.now();
        if (page.querySelector("script[src]").getAttribute("src") !== script) location.reload(); // the monitor is another version
        else if (!isSelecting()) put(page);
      }
    } catch {
      // Who does not answer is asked again; the page says for how long it was not heard of.
    } finally {
      busy = false;
    }
    tick();
  };

  const refresh = async () => {
    if (reading() === newest) return;
    const before = reading();
    await take();
    if (reading() !== before) refresh(); // and perhaps there is another one by now
  };

  const passed = (seconds) => {
    const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
    const first = parts.findIndex(([, length]) => seconds >= length);
    if (first < 0) return "0s";
    const [[unit, length], next] = [parts[first], parts[first + 1]];
    const rest = next ? Math.floor((seconds % length) / next[1]) : 0;
    return `${Math.floor(seconds / length)}${unit}${rest ? `${rest}${next[0]}` : ""}`;
  };

  const showAge = () => {
    const at = place().dataset.readAt;
    const said = place().querySelector(".passed");
    if (at && said) said.textContent = `, ${passed(Math.max(0, (Date.now() - ahead - Date.parse(at)) / 1000))} ago`;
  };

  const tick = () => {
    showAge();
    if (Date.now() - Math.max(heard, asked) > 2 * interval + 2000) {
      asked = Date.now(); // no event comes through: ask without one
      take();
    }
    const silent = Date.now() - heard;
    const gone = silent > 3 * interval + 10000;
    place().classList.toggle("stale", gone);
    if (gone) away.textContent = `This is old: the monitor has not been heard of for ${passed(silent / 1000)}.`;
    away.hidden = !gone;
  };

  const listen = () => {
    const events = new EventSource("events");
    events.addEventListener("reading", (event) => {
      const told = JSON.parse(event.data);
      heard = Date.now();
      ahead = heard - told.now * 1000;
      newest = told.reading;
      refresh();
    });
    events.onerror = () => {
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, interval); // refused: it has too many listeners
    };
  };
  document.addEventListener("selectionchange", () => isSelecting() || refresh());
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  setInterval(tick, 1000);
  tick();
  listen();
})();
