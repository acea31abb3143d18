// Watches one story being written over its socket (the contract is in the docs: story socket).
//
// The page holds a text and the name of the attempt it belongs to; both were rendered by the server. A connection
// says what is held, and the server goes on from there, so a lost network, a reload or another device neither
// loses nor doubles a character. Offsets count Unicode code points, not UTF-16 units. Text enters the page through
// textContent alone, and every word shown comes from the template's data attributes.
"use strict";

(() => {
  const page = document.querySelector("[data-socket]");
  if (!page) return;

  const prose = page.querySelector("[data-prose]");
  const end = page.querySelector("[data-end]");
  const bar = page.querySelector("[data-bar]");
  const status = page.querySelector("[data-status]");
  const counter = page.querySelector("[data-count]");
  const waiting = page.querySelector("[data-waited]");
  const latest = page.querySelector("[data-latest]");
  const stopForm = page.querySelector("[data-act=stop]");
  const unsent = page.querySelector("[data-unsent]");

  const NEAR = 150; // px from the end within which the page keeps up with the text
  const BAR = 144; // px kept free under the text: .story-end has the same in story.css
  const UNHEARD = 3000; // ms after which a stop that nothing came of is sent another way
  const MAX_WAIT = 15000; // ms between two tries to connect
  const UNFINISHED = ["queued", "writing"];
  const GONE = { 4403: "forbidden", 4404: "missing" };

  // ---- the text held ---------------------------------------------------------------------------------------

  let attempt = page.dataset.attempt;
  let held = "";
  let size = 0; // of `held`, in code points
  let paragraph = null;
  let fresh = null; // the last piece, while it fades in
  let breakNext = false;

  function codePoints(text) {
    let count = 0;
    for (const _ of text) count += 1;
    return count;
  }

  function firstPoints(text, count) {
    return Array.from(text).slice(0, count).join("");
  }

  function hold(text) {
    held = "";
    size = 0;
    paragraph = fresh = null;
    breakNext = false;
    prose.replaceChildren();
    append(text);
  }

  function append(text) {
    held += text;
    size += codePoints(text);
    for (const part of text.split(/([\r\n]+)/)) {
      if (/^[\r\n]/.test(part)) breakNext = true;
      else if (part) appendLine(part);
    }
    counter.textContent = size ? fill(counter.dataset.say, size) : "";
    hideWait();
  }

  function appendLine(line) {
    const starts = breakNext || !paragraph;
    const text = starts ? line.replace(/^[ \t\u3000]+/, "") : line;
    if (!text) return;
    if (fresh) {
      const owner = fresh.parentNode;
      fresh.replaceWith(fresh.textContent);
      owner.normalize();
    }
    if (starts) paragraph = prose.appendChild(document.createElement("p"));
    breakNext = false;
    fresh = document.createElement("span");
    fresh.className = "fresh";
    fresh.textContent = text;
    paragraph.append(fresh);
  }

  // ---- what the page says ----------------------------------------------------------------------------------

  let state = page.dataset.state;
  let thinkingSince = null; // on the clock of performance.now(), while the model thinks and does not write yet

  function think(seconds) {
    thinkingSince = seconds === undefined ? null : performance.now() - 1000 * seconds;
  }

  function hideWait() {
    waiting.hidden = !UNFINISHED.includes(state) || (size > 0 && thinkingSince === null);
  }

  function fill(sentence, n) {
    return sentence.replace("{n}", String(n));
  }

  function say(sentence) {
    if (sentence && status.textContent !== sentence) status.textContent = sentence;
  }

  function sayState({ position, reason, wait } = {}) {
    let sentence = status.dataset[`say_${state}`] || "";
    if (state === "queued" && position) sentence = fill(status.dataset.say_position, position);
    if (state === "writing" && thinkingSince !== null) sentence = status.dataset.say_thinking;
    if (state === "queued" && wait) sentence = fill(status.dataset.say_wait, Math.ceil(wait / 60));
    const why = state === "interrupted" || state === "failed" ? status.dataset[`why_${reason}`] : "";
    say(why ? `${sentence} · ${why}` : sentence);
  }

  function enter(newState, details) {
    state = newState;
    const busy = UNFINISHED.includes(state);
    prose.setAttribute("aria-busy", String(busy));
    bar.classList.toggle("is-busy", busy);
    for (const act of page.querySelectorAll("[data-states]")) {
      act.hidden = !act.dataset.states.split(" ").includes(state);
    }
    for (const button of page.querySelectorAll("[data-act] button")) button.disabled = false;
    if (unsent && !busy) unsent.hidden = true;
    hideWait();
    showWait();
    sayState(details);
    showLatest();
  }

  const waitedAtLoad = Number(waiting.dataset.waited);
  const clock = setInterval(showWait, 1000);

  function showWait() {
    const now = performance.now();
    const [words, seconds] =
      thinkingSince === null
        ? [waiting.dataset.say, waitedAtLoad + now / 1000]
        : [waiting.dataset.say_thinking, (now - thinkingSince) / 1000];
    waiting.textContent = fill(words, Math.round(seconds));
  }

  // ---- scrolling: keep up near the end, never against the reader ---------------------------------------------

  let following = gap() <= NEAR;
  let lastY = window.scrollY;
  let lastHeight = document.documentElement.scrollHeight;

  function gap() {
    return end.getBoundingClientRect().bottom + BAR - window.innerHeight;
  }

  function keepUp() {
    if (following && gap() > 0) end.scrollIntoView({ block: "end", behavior: "instant" });
    showLatest();
  }

  function showLatest() {
    latest.hidden = following || !UNFINISHED.includes(state) || gap() <= NEAR;
  }

  window.addEventListener(
    "scroll",
    () => {
      const height = document.documentElement.scrollHeight;
      const shrunk = height < lastHeight; // the browser moved up with the page, not the reader
      if (window.scrollY < lastY && !shrunk) following = false;
      else if (gap() <= NEAR) following = true;
      lastY = window.scrollY;
      lastHeight = height;
      showLatest();
    },
    { passive: true },
  );

  latest.addEventListener("click", () => {
    following = true;
    keepUp();
  });

  // ---- the socket ------------------------------------------------------------------------------------------

  let socket = null;
  let retry = 0; // timer of the next try, 0 while there is none
  let tries = 0;
  let finished = false;

  const handlers = {
    hello(message) {
      const kept = message.attempt === attempt ? message.offset : 0;
      attempt = message.attempt || "";
      if (kept < size) hold(firstPoints(held, kept));
      think(undefined);
      enter(message.state);
      if (unsent && !unsent.hidden) stop(); // it could not be sent while nobody was there
    },
    restart(message) {
      attempt = message.attempt;
      hold("");
    },
    text(message) {
      if (message.offset > size) {
        socket.close(4000, "gap"); // something is missing: connect anew, from what is held
        return;
      }
      tries = 0;
      const known = size - message.offset;
      append(known ? Array.from(message.text).slice(known).join("") : message.text);
      keepUp();
    },
    state(message) {
      think(message.thinking);
      enter(message.state, message);
    },
    end(message) {
      finished = true;
      clearInterval(clock);
      think(undefined);
      enter(message.state, message);
      keepUp();
      if (message.length !== size) window.location.reload(); // the server's page is always whole
    },
  };

  function connect() {
    retry = 0;
    const address = new URL(page.dataset.socket, window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    if (attempt) {
      address.searchParams.set("attempt", attempt);
      address.searchParams.set("offset", String(size));
    }
    socket = new WebSocket(address);
    socket.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      if (Object.hasOwn(handlers, message.type)) handlers[message.type](message);
    });
    socket.addEventListener("close", closed);
  }

  function closed(event) {
    if (finished) return;
    if (GONE[event.code]) {
      finished = true;
      clearInterval(clock);
      prose.setAttribute("aria-busy", "false");
      say(status.dataset[`say_${GONE[event.code]}`]);
      return;
    }
    say(status.dataset.say_lost);
    const longest = Math.min(MAX_WAIT, 500 * 2 ** tries);
    tries += 1;
    retry = setTimeout(connect, longest * (0.5 + Math.random() / 2));
  }

  function connectNow() {
    if (!retry) return;
    clearTimeout(retry);
    connect();
  }

  window.addEventListener("online", connectNow);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") connectNow();
  });

  // ---- stopping: over the socket, else as the form would, but without leaving the page ---------------------

  let stopping = 0; // timer of the next look whether the story has stopped, 0 while nobody wants that

  function stop() {
    clearTimeout(stopping);
    stopping = setTimeout(post, UNHEARD); // an open socket may lead nowhere
    stopForm.querySelector("button").disabled = true;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "stop" }));
    else post();
  }

  async function post() {
    clearTimeout(stopping);
    if (!UNFINISHED.includes(state)) return;
    let arrived = false;
    try {
      const answer = await fetch(stopForm.action, {
        method: "POST",
        body: new FormData(stopForm),
        redirect: "manual", // where the form would lead: to this page
        signal: AbortSignal.timeout(MAX_WAIT),
      });
      if (answer.status >= 400 && answer.status < 500) return window.location.reload(); // its page says why
      arrived = answer.type === "opaqueredirect" || answer.ok;
    } catch {
      // offline, or no answer: said below, and sent again when the network is back
    }
    unsent.hidden = arrived || !UNFINISHED.includes(state);
    stopForm.querySelector("button").disabled = false;
    if (!unsent.hidden) stopping = setTimeout(post, MAX_WAIT);
  }

  stopForm?.addEventListener("submit", (event) => {
    event.preventDefault();
    stop();
  });
  window.addEventListener("online", () => {
    if (unsent && !unsent.hidden) post();
  });

  if (waiting.dataset.thinking) think(Number(waiting.dataset.thinking));
  showWait();
  hold(JSON.parse(document.getElementById("story-text").textContent));
  connect();
})();
