// Keeps a page fresh without moving it under the reader, and adds keys. Pages work without it.
"use strict";

const main = document.getElementById("main");
const live = document.getElementById("live");
const HIDDEN_FACTOR = 4, MAX_BACKOFF = 8, IDLE_MS = 30 * 60 * 1000;
let tag = null, backoff = 1, isPaused = false, isLost = false, touched = Date.now();
// How far the clock of this machine is from that of the server.
const SKEW = Date.now() - Number(document.body.dataset.now);

// Morph: makes `old` like `fresh` in place, so that focus, scroll and open details stay. Children with an id are found by it.
function morph(old, fresh) {
  const isKept = (name) => name === "open" && old.tagName === "DETAILS";
  for (const { name, value } of fresh.attributes)
    if (!isKept(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!isKept(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = wanted.id ? [...old.children].find((each) => each.id === wanted.id) : null;
    if (known && known !== at) { old.insertBefore(known, at); at = known; }
    if (at && isLike(at, wanted)) {
      if (at.nodeType === Node.ELEMENT_NODE) morph(at, wanted);
      else if (at.nodeValue !== wanted.nodeValue) at.nodeValue = wanted.nodeValue;
      at = at.nextSibling;
    } else {
      old.insertBefore(document.importNode(wanted, true), at);
    }
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

function isLike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

// A page rests while the reader selects text, fills in a form or has ticked rows.
function isBusy() {
  const selection = document.getSelection();
  return (selection && !selection.isCollapsed) || main.querySelector("input:checked") !== null
    || (document.activeElement && main.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
}

// New rows are announced, not put above those that the reader looks at.
function hold(fresh) {
  const rows = main.querySelector("[data-rows]"), coming = fresh.querySelector("[data-rows]"), news = fresh.querySelector("#news");
  if (!rows || !coming || !news) return;
  const shown = new Set([...rows.children].map((row) => row.id));
  const added = [...coming.children].filter((row) => !shown.has(row.id));
  if (!added.length) return;
  const count = added.length, still = new Set([...coming.children].map((row) => row.id));
  added.forEach((row) => row.remove());
  // Rows that new ones have pushed off the end stay too.
  for (const row of rows.children) if (!still.has(row.id)) coming.append(row.cloneNode(true));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = `${count} ${main.dataset.new}`;
  news.append(button);
}

main.addEventListener("click", (event) => {
  if (!event.target.closest("#news button")) return;
  tag = null;
  // The button goes, and the focus with it: to the newest row.
  refresh(true).then(() => main.querySelector("a.row")?.focus(), () => {});
});

async function refresh(takesAll) {
  const address = new URL(location.href);
  address.searchParams.set("part", "main");
  const answer = await fetch(address, { headers: tag ? { "if-none-match": tag } : {}, cache: "no-store" });
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(String(answer.status));
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (!fresh || (!takesAll && isBusy())) return;
  tag = answer.headers.get("etag");
  if (!takesAll) hold(fresh);
  morph(main, fresh);
}

// Says whether the page is fresh. Without an answer it keeps what it has.
function say() {
  if (!live) return;
  const state = isPaused ? "paused" : isLost ? "lost" : "live";
  live.dataset.state = state;
  live.textContent = live.dataset[state];
}

async function loop() {
  const every = Number(main.dataset.every);
  if (!every) return;
  await new Promise((done) => setTimeout(done, every * 1000 * backoff * (document.hidden ? HIDDEN_FACTOR : 1)));
  if (!isPaused && Date.now() - touched < IDLE_MS && !isBusy()) {
    try { await refresh(false); backoff = 1; isLost = false; } catch { backoff = Math.min(2 * backoff, MAX_BACKOFF); isLost = true; }
    say();
  }
  loop();
}

// Times go on without the server.
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
function ages() {
  for (const each of document.querySelectorAll("time[datetime]")) {
    const distance = (Date.now() - SKEW - Date.parse(each.dateTime)) / 1000, s = Math.abs(distance);
    const [unit, size] = UNITS.find(([, size]) => s >= size) || ["", 1];
    const count = `${Math.floor(s / size)} ${unit}`;
    const told = !unit ? "now" : distance > 0 ? `${count} ago` : `in ${count}`;
    if (each.textContent !== told) each.textContent = told;
  }
}

// Keys: off in fields, and with a modifier.
const base = document.querySelector(".brand").getAttribute("href");
const PLACES = { o: "", r: "runs", e: "errors", f: "functions", v: "events", q: "queues", w: "workers" };
let isGoing = false;
function step(by) {
  const rows = [...main.querySelectorAll("a.row")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))].focus();
}
document.addEventListener("keydown", (event) => {
  touched = Date.now();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (isGoing && event.key in PLACES) { location.href = base + PLACES[event.key]; return; }
  isGoing = event.key === "g";
  if (event.key === "/") { event.preventDefault(); document.getElementById("search")?.focus(); }
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "p") { isPaused = !isPaused; say(); }
  else if (event.key === "?") { const keys = document.getElementById("keys"); keys.open = !keys.open; }
});
document.addEventListener("pointermove", () => { touched = Date.now(); }, { passive: true });

// A field that keeps what there is when left empty: a button puts that into it, to be edited.
for (const field of document.querySelectorAll("textarea[data-now]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = main.dataset.edit;
  button.addEventListener("click", () => { field.value = field.dataset.now; field.focus(); });
  field.closest("label").after(button);
}

setInterval(ages, 1000);
loop();
