/* The curves of a training: uPlot, fed by a JSON address, renewed while the job lives.

   Colours are those of the legend's words, so that every theme draws in its own; the table below the chart
   holds the same figures for those who do not see it. */
(function () {
  "use strict";

  const EVERY = 2000; // milliseconds between two looks
  const HEIGHT = 220;
  const section = document.querySelector("[data-charts]");
  if (!section || !window.uPlot) return;
  const charts = [];

  function colour(element, property) {
    return getComputedStyle(element)[property || "color"];
  }

  function series(name) {
    const kind = name.startsWith("training") ? "training" : "validation";
    const mark = section.querySelector(".mark-" + kind);
    return {
      label: mark.textContent,
      stroke: () => colour(mark),
      width: kind === "training" ? 1.5 : 2,
      spanGaps: true,
      points: { show: kind === "validation", size: 5 },
      value: (_chart, value) => (value === null || value === undefined ? "—" : value.toFixed(4)),
    };
  }

  function axis(size) {
    return {
      stroke: () => colour(section),
      grid: { stroke: () => colour(section, "borderTopColor"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
      size: size,
    };
  }

  function range(top) {
    return (_chart, low, high) => {
      if (low === null || high === null) return [0, 1];
      const room = Math.max((high - low) * 0.05, 0.01);
      return [Math.max(0, low - room), top ? Math.min(top, high + room) : high + room];
    };
  }

  function draw(place, columns) {
    const names = place.dataset.curves.split(" ");
    const top = Number(place.dataset.top || 0);
    const options = {
      width: place.clientWidth,
      height: HEIGHT,
      scales: { x: { time: false }, y: { range: range(top) } },
      axes: [axis(28), axis(44)],
      series: [{ label: "step" }].concat(names.map(series)),
      legend: { show: false },
      cursor: { y: false },
    };
    const chart = new uPlot(options, pick(names, columns), place);
    new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
    charts.push({ chart: chart, names: names });
  }

  function pick(names, columns) {
    return [columns.step].concat(names.map((name) => columns[name]));
  }

  function fill(rows) {
    const body = document.querySelector("[data-figures]");
    const fresh = rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text) => (row.insertCell().textContent = text));
      return row;
    });
    body.replaceChildren(...fresh);
  }

  // Said once for each change: the visible state is replaced every two seconds, too often to be read aloud.
  function say(state) {
    const place = document.querySelector("[data-state]");
    if (place.textContent !== state) place.textContent = state;
  }

  function show(answer) {
    say(answer.state);
    const known = answer.curves.step.length > 0;
    section.querySelector("[data-empty]").hidden = known;
    section.classList.toggle("drawn", known);
    if (!known) return;
    if (!charts.length) {
      section.querySelectorAll("[data-curves]").forEach((place) => draw(place, answer.curves));
    } else {
      charts.forEach((one) => one.chart.setData(pick(one.names, answer.curves)));
    }
    fill(answer.table);
  }

  async function look() {
    let live = true;
    try {
      const reply = await fetch(section.dataset.charts, { headers: { Accept: "application/json" } });
      if (reply.ok) {
        const answer = await reply.json();
        show(answer);
        live = answer.live;
      } else {
        live = reply.status >= 500; // logged out, or gone: asking again will not help
      }
    } catch (error) {
      live = error instanceof TypeError; // the network is away: ask again
    }
    if (live) setTimeout(look, EVERY);
  }

  const redraw = () => charts.forEach((one) => one.chart.redraw(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  look();
})();
