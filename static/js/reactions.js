// What scripts add to a finished story: reaching its end counts as reading it, a marked passage goes into the
// report, and sharing hands the address on. Every act is a form that works without this file; htmx sends 👍 and 👎.
"use strict";

(() => {
  const prose = document.querySelector("[data-prose]");
  const end = document.querySelector("[data-end]");
  const FASTEST = 20; // characters a second: nobody reads faster than that
  const PAUSE = 2000; // ms that a button says what it did

  // ---- read to the end -------------------------------------------------------------------------------------

  let seconds = 0; // with the page in front

  const watch = setInterval(() => {
    const form = document.querySelector("[data-finish]");
    if (!form) return clearInterval(watch);
    if (document.hidden) return;
    seconds += 1;
    const size = prose.textContent.length;
    const reached = end.getBoundingClientRect().bottom <= window.innerHeight;
    const written = prose.getAttribute("aria-busy") === "false" && size > 0;
    if (written && reached && seconds >= size / FASTEST) {
      clearInterval(watch);
      if (window.htmx) form.requestSubmit(); // without it the whole page would go and come back
    }
  }, 1000);

  // ---- what did not arrive -----------------------------------------------------------------------------------

  const trouble = document.querySelector("[data-trouble]");
  for (const event of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(event, () => {
      trouble.hidden = false;
    });
  }
  document.addEventListener("htmx:afterSwap", () => {
    trouble.hidden = true;
  });

  // ---- without a network a form would leave the page for the browser's own words ---------------------------

  const offline = document.querySelector("[data-offline]");
  document.addEventListener("submit", (event) => {
    if (navigator.onLine || event.defaultPrevented) return;
    event.preventDefault();
    offline.hidden = false;
  });
  window.addEventListener("online", () => {
    offline.hidden = true;
  });

  // ---- the passage a report is about -----------------------------------------------------------------------

  const report = document.querySelector("[data-report]");
  let marked = "";

  document.addEventListener("selectionchange", () => {
    const selection = document.getSelection();
    const text = selection.toString().trim();
    if (text && prose.contains(selection.anchorNode) && prose.contains(selection.focusNode)) marked = text;
  });

  report?.addEventListener("toggle", () => {
    const field = report.querySelector("[name=passage]");
    if (report.open && !field.value) field.value = marked.slice(0, field.maxLength);
  });

  // ---- sharing ---------------------------------------------------------------------------------------------

  const form = document.querySelector("[data-share]");
  if (!form || !(navigator.share || navigator.clipboard)) return;
  const button = form.querySelector("button");
  const said = button.textContent;
  form.classList.remove("needs-js");

  function say(sentence) {
    button.textContent = sentence;
    setTimeout(() => {
      button.textContent = said;
    }, PAUSE);
  }

  async function open() {
    if (form.method !== "post") return true; // already open to whoever has the address
    const answer = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
    });
    if (answer.ok) {
      const { visibility } = await answer.json();
      document.querySelector("[data-unshare]").hidden = visibility !== "link";
    }
    return answer.ok;
  }

  async function hand(address, text) {
    if (navigator.share) {
      await navigator.share({ text, url: address });
    } else {
      await navigator.clipboard.writeText(`${text}\n${address}`);
      say(button.dataset.done);
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      if (await open()) await hand(button.dataset.address, button.dataset.text);
      else say(button.dataset.failed);
    } catch (error) {
      if (error.name !== "AbortError") say(button.dataset.failed); // AbortError: the reader thought better of it
    }
  });
})();
