// The review page while an edit is not saved: the button that publishes says that it saves the edit first, and
// nobody leaves the page unawares. The server does the rest, and does it without this file too.
"use strict";

(() => {
  const form = document.querySelector("[data-review]");
  const text = form?.querySelector("[name=text]");
  if (!text) return;
  const publish = form.querySelector("[data-with-edit]");
  const plain = publish?.textContent;
  const kept = form.hasAttribute("data-unsaved"); // typed before, and sent back with a question
  let leaving = false;

  function isUnsaved() {
    return kept || text.value !== text.defaultValue;
  }

  function show() {
    if (publish) publish.textContent = isUnsaved() ? publish.dataset.withEdit : plain;
  }

  text.addEventListener("input", show);
  form.addEventListener("submit", (event) => {
    leaving = event.submitter?.formMethod !== "dialog"; // that one is what Enter presses, and does nothing
  });
  window.addEventListener("pageshow", () => {
    leaving = false;
    show(); // a browser that goes back may have kept what was typed
  });
  window.addEventListener("beforeunload", (event) => {
    if (isUnsaved() && !leaving) event.preventDefault();
  });
})();
