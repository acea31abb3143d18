// Applies the reader's theme and text size before the first paint, and lets the foot of the page change them.
// "theme" is shared with the admin, which knows light, dark and auto; sepia is a light theme with a mark beside it.
"use strict";

(() => {
  const root = document.documentElement;

  function stored(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage is switched off: the defaults stand
    }
  }

  function store(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      root.dataset.unstored = name; // this page shows the choice all the same; the next will not
    }
  }

  function read() {
    const theme = stored("theme") || "auto";
    return {
      theme: theme === "light" && stored("sepia") === "yes" ? "sepia" : theme,
      size: stored("size") || "normal",
    };
  }

  function apply(chosen) {
    root.dataset.theme = chosen.theme;
    root.dataset.size = chosen.size;
    for (const group of document.querySelectorAll("[data-choice]")) {
      group.hidden = false;
      for (const button of group.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(button.dataset.value === chosen[group.dataset.choice]));
      }
    }
  }

  function choose(name, value) {
    if (name === "theme") {
      store("sepia", value === "sepia" ? "yes" : "no");
      store("theme", value === "sepia" ? "light" : value);
    } else {
      store(name, value);
    }
    apply({ ...root.dataset, [name]: value });
  }

  root.classList.add("js");
  apply(read());
  document.addEventListener("DOMContentLoaded", () => apply(read()));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-choice] button");
    if (button) choose(button.closest("[data-choice]").dataset.choice, button.dataset.value);
  });
})();
