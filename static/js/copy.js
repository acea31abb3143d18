// The copy button of a story; hidden where the browser has no clipboard for us.
"use strict";

(() => {
  const button = document.querySelector("[data-copy]");
  if (!button || !navigator.clipboard) return;
  const said = button.textContent;
  button.classList.remove("needs-js");
  button.addEventListener("click", async () => {
    const lines = [...document.querySelectorAll("[data-prose] p")].map((line) => line.textContent);
    try {
      await navigator.clipboard.writeText(`${lines.join("\n\n")}\n\n${button.dataset.label}`);
      button.textContent = button.dataset.done;
    } catch {
      button.textContent = button.dataset.failed; // the browser asked its user, who said no
    }
    setTimeout(() => {
      button.textContent = said;
    }, 2000);
  });
})();
