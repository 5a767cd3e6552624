// The page's own behaviour: theme, plots, the table of runs. Everything else is plain HTML.
(function () {
  "use strict";
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const root = document.documentElement;
  const drawn = new Map(); // chart element -> Vega's view

  const single = document.getElementById("single"); // shows the runs of each group beside their mean
  if (single) single.addEventListener("change", redraw);

  // Theme: auto (as the system), light, dark. Kept where the browser lets a local file keep something.
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const store = {
    get: () => { try { return localStorage.getItem("layerwise-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("layerwise-theme", value); } catch { /* not in this browser */ } },
  };
  function setTheme(theme) {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.setAttribute("aria-label", `Theme: ${theme === "auto" ? "as the system" : theme}. Change it`);
  }
  let theme = themes.includes(store.get()) ? store.get() : "auto";
  setTheme(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    store.set(theme);
    setTheme(theme);
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // The names in a legend of colours.
  const namesOf = (colour, rows) => colour?.scale?.domain ?? [...new Set(rows.map((row) => row[colour?.field] ?? ""))];
  function vegaConfig(width, layers, rows) {
    const narrow = width < 480;
    const words = layers.flatMap(({ encoding }) => namesOf(encoding?.color, rows));
    const longest = 7 * Math.max(0, ...words.map((word) => String(word).length)) + 34; // pixels of a legend's entry
    const places = layers.some(({ encoding }) => encoding?.y?.field === "place") ? rows.map((row) => row.place.split("\n")).flat() : [];
    const beside = 7 * Math.max(0, ...places.map((line) => line.length)); // of the names beside bars
    const columns = Math.max(1, Math.floor((width - 70 - beside) / longest));
    const css = getComputedStyle(root);
    const of = (name) => css.getPropertyValue(name).trim();
    const font = of("--font");
    const count = Number(document.documentElement.dataset.colours); // one for each group: no two are equal
    const palette = Array.from({ length: count }, (_, i) => of(`--c${i + 1}`));
    const text = { labelColor: of("--muted"), titleColor: of("--muted"), labelFont: font, titleFont: font };
    return {
      background: "transparent",
      font,
      padding: { left: 0, right: 8, top: 4, bottom: 8 },
      params: [{ name: "inkOnCell", value: of("--ink") }],
      view: { stroke: null },
      axis: {
        ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 10, labelPadding: 6,
        gridColor: of("--line"), domain: false, ticks: false, labelLimit: narrow ? 0.55 * width : 320, tickCount: narrow ? 4 : 6,
      },
      axisX: { grid: false, domain: true, domainColor: of("--line"), labelOverlap: true },
      legend: {
        ...text, labelColor: of("--ink"), labelFontSize: 12, titleFontWeight: "normal", orient: "top", direction: "horizontal",
        columns, symbolStrokeWidth: 2.25, labelLimit: width - 100, symbolLimit: 0, offset: 12,
        layout: { top: { anchor: "start", direction: "vertical", margin: 8 } },
      },
      range: { category: palette, ordinal: { scheme: "viridis", extent: [Number(of("--first")), Number(of("--last"))] }, phase: [1, 2, 3, 4].map((i) => of(`--p${i}`)), heatmap: [of("--cell-low"), of("--cell-high")], ramp: [of("--cell-low"), of("--cell-high")] },
      style: { reference: { stroke: of("--muted") }, "reference-words": { fill: of("--muted"), font, fontSize: 11 } },
      line: { strokeJoin: "round" },
      mark: { color: of("--p1") },
      text: { font, color: of("--ink") },
      rule: { color: of("--muted") },
    };
  }

  async function draw(element) {
    const whole = specs[element.dataset.chart];
    const layer = whole.layer.filter(({ name }) => name !== "single" || single.checked);
    const spec = { ...whole, layer };
    const hasNames = [whole, ...layer].some(({ encoding }) => encoding?.y?.type === "nominal");
    if ("paper" in root.dataset && !hasNames) spec.height = Math.min(spec.height, 230); // two plots on a page
    const { view } = await vegaEmbed(element, spec, {
      actions: false, renderer: "svg", config: vegaConfig(element.clientWidth, layer, whole.data.values), tooltip: { theme: "custom", disableDefaultStyle: false },
    });
    drawn.set(element, view);
  }
  // A plot in a closed <details> may have no width: it is drawn once it is opened.
  const visible = (element) => element.closest("details.run:not([open])") === null;
  const all = () => [...document.querySelectorAll(".chart")];
  async function drawVisible() {
    await Promise.all(all().filter((e) => visible(e) && !drawn.has(e)).map(draw));
    root.dataset.drawn = "true";
  }
  async function redraw() {
    drawn.forEach((view) => view.finalize());
    drawn.clear();
    delete root.dataset.drawn;
    await drawVisible();
  }
  document.querySelectorAll("details.run").forEach((d) => d.addEventListener("toggle", drawVisible));
  // Paper gets all parts, and plots of its width: a plot of a screen's width would be shrunk with its letters.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.run, details.seeds").forEach((d) => { d.open = true; });
    root.dataset.paper = "";
    redraw();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.paper;
    redraw();
  });

  // The table of runs.
  const table = document.getElementById("runs");
  if (table) {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    const value = (row, column) => row.cells[column].dataset.value;
    function compare(a, b) {
      const [x, y] = [Number(a), Number(b)];
      return a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b, undefined, { numeric: true });
    }
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "descending" ? 1 : heading.getAttribute("aria-sort") === "ascending" ? -1
        : heading.classList.contains("number") ? -1 : 1; // of numbers the largest first
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const missing = (row) => value(row, column) === "";
      const rows = [...body.rows].sort((a, b) => missing(a) - missing(b) || direction * compare(value(a, column), value(b, column)));
      body.append(...rows); // a run without the figure stays last
    }));
    const filter = document.getElementById("filter");
    const status = document.getElementById("status");
    function apply() {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of body.rows) {
        const text = `${row.textContent} ${row.dataset.words}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word)) || (status.value !== "" && !row.dataset.status.split(" ").includes(status.value));
        shown += row.hidden ? 0 : 1;
      }
      document.getElementById("count").textContent = `${shown} of ${body.rows.length} rows`;
    }
    filter.addEventListener("input", apply);
    status.addEventListener("change", apply);
    const only = document.getElementById("differences");
    if (only) only.addEventListener("change", () => document.getElementById("config").classList.toggle("only-differences", only.checked));
  }

  document.querySelectorAll(".copy").forEach((copy) => copy.addEventListener("click", async () => {
    const code = copy.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch { // a local file may not be allowed to: the text is then selected
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
  }));

  drawVisible();
})();
