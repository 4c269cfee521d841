/* Interactive figures: their values come from a file of the page and are drawn when they come into view. */
"use strict";
(function () {
  var defectbench = window.defectbench, make = defectbench.make, ink = defectbench.ink;
  var given = {};
  defectbench.charts = function (key, charts) { given[key] = charts; };  /* called by the files of the charts */
  var palette = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#7F5FB5", "#A05A2C", "#B8A800"];
  var symbols = ["circle", "square", "diamond", "triangle-up", "cross"];
  var meaning = { model: "#0072B2", other_charge: "#CC79A7", host_referenced: "#E69F00", good: "#009E73", miss: "#D55E00", muted: "#8A8A8A" };
  function escaped(text) { return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/&lt;(\/?)sup>/g, "<$1sup>"); }
  function category(list) {  /* long texts are broken */
    return list.map(function (x) { return typeof x === "string" ? escaped(x).replace(/(.{14,}?) /g, "$1<br>") : x; });
  }

  function traces(panel) {
    var seen = {}, next = 0, scaled = false;
    return panel.series.map(function (s) {
      var colour = s.colour === "reference" ? ink("--ink") : s.colour ? meaning[s.colour] : palette[next % palette.length];
      var symbol = s.colour || s.values.length ? s.symbol : symbols[Math.floor(next / palette.length) % symbols.length];
      if (!s.colour) next++;
      var out = {
        type: "scatter", mode: s.mode + (s.named ? "+text" : ""), textposition: s.mode === "markers" ? "top center" : "middle right", cliponaxis: false, name: escaped(s.label), x: category(s.x), y: category(s.y), customdata: s.texts.map(escaped), text: s.named ? s.texts.map(function (t, i) { return s.mode === "markers" || i === s.texts.length - 1 ? escaped(t) : ""; }) : undefined, connectgaps: false,
        line: { color: colour, width: s.dash ? 1.5 : 2, dash: s.dash ? "dash" : "solid", shape: s.step ? "hv" : "linear" },
        marker: { color: colour, size: s.size, symbol: symbol, line: { width: /^(line|y-)/.test(s.symbol) ? 2 : 0, color: colour } },
        legendgroup: s.label, showlegend: !seen[s.label], hovertemplate: (s.texts.length ? "%{customdata}<br>" : "") + (s.placed ? "%{x}" : "%{x}, %{y:.3f}") + "<extra>" + escaped(s.label) + "</extra>"
      };
      seen[s.label] = true;
      if (s.values.length) {
        out.marker.color = s.values;
        out.marker.colorscale = "Viridis";
        out.marker.cmin = 0;
        if (panel.scale_top !== null) out.marker.cmax = panel.scale_top;
        out.marker.line = { width: 1.2, color: colour };
        if (panel.scale_top === null) { out.marker.color = s.values.map(function (v) { return Math.log10(v); }); out.marker.line.width = 0; }
        out.marker.showscale = !scaled;
        scaled = true;
        out.marker.colorbar = { title: { text: (panel.scale_top === null ? "log₁₀ of " : "") + escaped(panel.scale), side: "right", font: { size: 11 } }, thickness: 12, outlinewidth: 0 };
      }
      return out;
    });
  }
  function layout(panel) {
    var line = ink("--line"), text = ink("--ink"), shapes = [], notes = [];
    function axis(label, log) { return { title: { text: escaped(label), standoff: 8 }, type: log ? "log" : undefined, gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true }; }
    var x = axis(panel.x_label, panel.x_log), y = axis(panel.y_label, false);
    if (panel.limit !== null) shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: 0, y1: panel.limit, fillcolor: "#009E73", opacity: 0.14, line: { width: 0 }, layer: "below" });
    if (panel.note) notes.push({ x: 0, y: 1, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", text: escaped(panel.note), font: { color: ink("--soft"), size: 12 }, showarrow: false });
    panel.marks.forEach(function (m) {
      shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: m[0], x1: m[0], line: { color: "#8A8A8A", dash: "dot", width: 1 } });
      notes.push({ x: m[0], y: 1, yref: "paper", yanchor: "bottom", text: escaped(m[1]), showarrow: false });
    });
    panel.lines.forEach(function (m) {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: m[0], y1: m[0], line: { color: "#8A8A8A", dash: "dash", width: 1 }, layer: "below" });
      notes.push({ x: 1, y: m[0], xref: "paper", xanchor: "right", yanchor: "bottom", text: escaped(m[1]), showarrow: false });
      y.autorangeoptions = { include: panel.lines.map(function (l) { return l[0]; }) };
    });
    if (panel.series.some(function (s) { return s.x.some(function (v) { return typeof v === "string"; }); })) {
      x.type = "category";
      if (panel.categories.length) { x.categoryorder = "array"; x.categoryarray = category(panel.categories); }
    }
    if (panel.x_log) {  /* 1, 2 and 5 of each decade */
      var known = [].concat.apply([], panel.series.map(function (s) { return s.x; })), steps = [];
      for (var k = Math.floor(Math.log10(Math.min.apply(null, known))); k <= Math.ceil(Math.log10(Math.max.apply(null, known))); k++) steps.push(k);
      x.tickvals = [].concat.apply([], steps.map(function (k) { return [1, 2, 5].map(function (m) { return Number((m * Math.pow(10, k)).toPrecision(3)); }); }));
      x.ticktext = x.tickvals.map(function (v) { return v >= 1000 ? v.toLocaleString("en") : String(v); });
    }
    if (panel.square) {
      var all = [];
      panel.series.forEach(function (s) { s.x.concat(s.y).forEach(function (v) { if (v !== null) all.push(v); }); });
      var low = Math.min.apply(null, all), high = Math.max.apply(null, all);
      shapes.push({ type: "line", x0: low, y0: low, x1: high, y1: high, line: { color: "#8A8A8A", width: 1 }, layer: "below" });
      var room = 0.05 * (high - low) || 0.1;
      x.range = [low - room, high + room];
      y.range = [low - room, high + room];
      y.scaleanchor = "x";
      x.constrain = y.constrain = "domain";
    }
    if (panel.bottom !== null || panel.top !== null) { y.rangemode = panel.bottom === 0 ? "tozero" : "normal"; if (panel.top !== null) y.range = [panel.bottom, panel.top]; }
    if (!panel.series.length) x.visible = y.visible = false;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text, family: "system-ui, sans-serif", size: 13 }, margin: { l: 60, r: 16, t: 24, b: 50 },
      xaxis: x, yaxis: y, shapes: shapes, annotations: notes, hovermode: "closest", showlegend: panel.series.length > 1,
      legend: { orientation: "h", y: -0.22, yanchor: "top", font: { size: 12 } }, hoverlabel: { align: "left" }, height: panel.square ? 560 : 460
    };
  }

  function titled(chart, stage) {  /* a file stands alone: it says what it shows and of what */
    var text = escaped(chart.title).replace(/(.{90,}?) /g, "$1<br>"), shown = Object.assign({}, stage.layout);
    shown.title = { text: text, x: 0.01, xanchor: "left", y: 0.95, yanchor: "top", font: { size: 15 }, subtitle: { text: escaped(chart.source), font: { size: 12 } } };
    shown.margin = Object.assign({}, shown.margin, { t: 72 + 20 * (text.split("<br>").length) });
    shown.paper_bgcolor = shown.plot_bgcolor = ink("--paper");
    return { data: stage.data, layout: shown };
  }
  function build(box, chart) {
    var stage = make("div", { "class": "plot", role: "img", "aria-label": chart.title }), chooser = make("select"), bar = make("div", { "class": "controls" }), label = make("label", {}, "Panel ");
    box.textContent = "";
    box.appendChild(make("h4", {}, chart.title));
    box.appendChild(make("p", { "class": "small soft" }, chart.source));
    chart.panels.forEach(function (p, i) { chooser.appendChild(make("option", { value: String(i) }, p.label)); });
    label.appendChild(chooser);
    if (chart.panels.length > 1) bar.appendChild(label);
    ["PNG", "SVG"].forEach(function (kind) {
      var button = make("button", { type: "button", "aria-label": kind + ": " + chart.title }, kind);
      button.addEventListener("click", function () {
        window.Plotly.downloadImage(titled(chart, stage), { format: kind.toLowerCase(), filename: chart.name + "-" + chart.panels[Number(chooser.value)].label, width: 900, height: 560, scale: kind === "PNG" ? 2 : 1 });
      });
      bar.appendChild(button);
    });
    box.append(bar, stage);
    if (chart.note) box.appendChild(make("p", { "class": "small soft" }, chart.note));
    function draw() {
      var panel = chart.panels[Number(chooser.value) || 0], shown = layout(panel), paper = document.documentElement.classList.contains("printing");
      if (paper) { shown.width = 680; shown.height = panel.square ? 480 : 400; }
      stage.setAttribute("aria-label", chart.title + ", " + panel.label + ": " + panel.y_label + " against " + panel.x_label + ". The numbers stand in the tables.");
      return window.Plotly.react(stage, traces(panel), shown, { responsive: !paper, displaylogo: false, displayModeBar: false });
    }
    chooser.addEventListener("change", draw);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    drawn.push(draw);
    return draw();
  }

  var files = {};
  function load(box) {
    var file = box.dataset.file, library = box.dataset.root + "static/plotly/plotly-basic.min.js";
    [file, library].forEach(function (f) { if (!files[f]) files[f] = defectbench.load(f === file ? box.dataset.root + f : f); });
    return Promise.all([files[file], files[library]]);
  }
  /* on paper: every figure, black on white, as wide as a page */
  var drawn = [], waiting = [];
  window.addEventListener("beforeprint", function () {
    document.documentElement.classList.add("printing");
    drawn.forEach(function (draw) { draw(); });
    if (window.Plotly) waiting.slice().forEach(function (box) { if (given[box.dataset.key]) show(box); });
  });
  window.addEventListener("afterprint", function () {
    document.documentElement.classList.remove("printing");
    drawn.forEach(function (draw) { draw(); });
  });
  window.addEventListener("load", function () {  /* a page may be printed before its figures came into view */
    (window.requestIdleCallback || setTimeout)(function () { waiting.forEach(load); }, { timeout: 3000 });
  });
  function show(box) {
    waiting.splice(waiting.indexOf(box), 1);
    build(box, given[box.dataset.key][box.dataset.chart]);
    box.dataset.drawn = "1";
  }
  document.querySelectorAll(".chart").forEach(function (box) {
    box.hidden = false;
    box.textContent = "The figure is loading …";
    box.parentElement.classList.add("has-chart");
    waiting.push(box);
    new IntersectionObserver(function (entries, observer) {
      if (!entries.some(function (e) { return e.isIntersecting; })) return;
      observer.disconnect();
      load(box).then(function () { if (waiting.indexOf(box) >= 0) show(box); }).catch(function (error) {
        box.textContent = "The figure cannot be drawn: " + error.message;
        box.parentElement.classList.remove("has-chart");
      });
    }, { rootMargin: "300px" }).observe(box);
  });
})();
