// Takes a newer page when the monitor has read again, and says so when it no longer hears of it. Without this the page reloads itself.
"use strict";
(() => {
  const place = () => document.getElementById("page");
  const away = document.getElementById("away");
  const interval = Number(place().dataset.interval) * 1000;
  let newest = Number(place().dataset.reading);
  let heard = Date.now();
  let ahead = 0; // of our clock before the monitor's
  let busy = false;

  // Where one is: in a list that is drawn anew, so that it is found again by its id.
  const isSelecting = () => {
    const selected = document.getSelection();
    return Boolean(selected && !selected.isCollapsed && place().contains(selected.anchorNode));
  };

  const put = (page) => {
    const old = place();
    const keys = new Set([...old.querySelectorAll("[data-key]")].map((each) => each.dataset.key));
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...old.querySelectorAll("details[id][open]")].map((each) => each.id);
    const sideways = document.getElementById("drawing")?.scrollLeft;
    const verdict = document.getElementById("verdict").textContent.trim();
    const down = window.scrollY;
    old.replaceWith(document.adoptNode(page.getElementById("page")));
    document.title = page.title;
    document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").href;
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    if (sideways) document.getElementById("drawing")?.scrollTo(sideways, 0);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    window.scrollTo(0, down);
    place().querySelectorAll("[data-key]").forEach((each) => keys.has(each.dataset.key) || each.classList.add("new"));
    const now = document.getElementById("verdict").textContent.trim();
    if (now !== verdict) document.getElementById("announced").textContent = now;
  };

  const refresh = async () => {
    if (busy || isSelecting() || newest === Number(place().dataset.reading)) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The events come back by themselves, and with them the next try.
    } finally {
      busy = false;
    }
    tick();
  };

  const passed = (seconds) => {
    const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
    const first = parts.findIndex(([, length]) => seconds >= length);
    if (first < 0) return "0s";
    const [[unit, length], next] = [parts[first], parts[first + 1]];
    const rest = next ? Math.floor((seconds % length) / next[1]) : 0;
    return `${Math.floor(seconds / length)}${unit}${rest ? `${rest}${next[0]}` : ""}`;
  };

  const tick = () => {
    const at = place().dataset.readAt;
    const said = place().querySelector(".passed");
    if (at && said) said.textContent = `, ${passed(Math.max(0, (Date.now() - ahead - Date.parse(at)) / 1000))} ago`;
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
