// The ask page: a chip and a typed ingredient never contradict each other, 随机 needs no reload, and one press
// of the button is one story. Everything works without this file.
"use strict";

(() => {
  const form = document.querySelector("[data-ask]");
  const pickers = [...form.querySelectorAll("[data-picker]")].map((set) => ({
    chips: [...set.querySelectorAll("input[type=radio]")],
    typed: set.querySelector("input:not([type=radio])"),
  }));

  for (const { chips, typed } of pickers) {
    for (const chip of chips) {
      chip.addEventListener("change", () => {
        typed.value = "";
      });
    }
    typed.addEventListener("input", () => {
      const text = typed.value.trim();
      if (!text) return;
      for (const chip of chips) chip.checked = chip.value === text;
    });
  }

  form.querySelector("[data-random]").addEventListener("click", (event) => {
    event.preventDefault();
    for (const { chips, typed } of pickers) {
      if (!chips.length) continue;
      typed.value = "";
      chips[Math.floor(Math.random() * chips.length)].checked = true;
    }
  });

  const send = form.querySelector("button.primary");
  form.addEventListener("submit", () => {
    // Disabled after the browser has gathered the form; back on when the page returns from the history.
    setTimeout(() => {
      send.disabled = true;
    });
  });
  window.addEventListener("pageshow", () => {
    send.disabled = false;
  });
})();
