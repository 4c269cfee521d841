/* The overview: one board at a time as an interactive table, ranks that follow the weights, and the whole state in the address. */
"use strict";
(function () {
  var data = JSON.parse(document.getElementById("data").textContent);
  var byId = function (id) { return document.getElementById(id); };
  var boards = {}, weights = {}, declared = {}, hidden = {}, table = null, board = null, sorted = null, states = null, chosen = { defect: "", charge: "" };
  data.boards.forEach(function (b) {
    boards[b.id] = b;
    b.rows.forEach(function (row) {
      row.overall = unpacked(row.overall);
      Object.keys(row.tasks).forEach(function (task) { row.tasks[task] = unpacked(row.tasks[task]); });
    });
  });
  data.tasks.forEach(function (t) { declared[t.task] = weights[t.task] = t.weight; });

  function unpacked(list) { return { score: list[0], low: list[1], high: list[2], reason: list[3] }; }
  function element(name, text, className) {
    var made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }
  window.defectbench.states = function (given) { states = given; };  /* called by data/states.js */
  function two(value) { return value.toFixed(2); }
  function custom() { return board.tasks.some(function (t) { return weights[t] !== declared[t]; }); }

  /* the weighted mean over the tasks that have a score; of the best baselines a missing one is 0 where the first model is scored */
  function mean(row, part, first) {
    var sum = 0, total = 0;
    board.tasks.forEach(function (task) {
      var value = row.tasks[task][part];
      if (value === null && row.kind === "best baselines" && first && first.tasks[task].score !== null) value = 0;
      if (value === null) return;
      sum += weights[task] * value;
      total += weights[task];
    });
    return total > 0 ? sum / total : null;
  }

  function rows() {
    var changed = custom();
    var first = board.rows.filter(function (r) { return r.kind === "model"; })[0];
    var out = board.rows.map(function (row, place) {
      var one = Object.assign({ key: place }, row), overall = row.overall;
      if (changed && row.kind !== "baseline") {
        overall = { score: mean(row, "score", first), low: mean(row, "low"), high: mean(row, "high"), reason: "no weighted task has a score" };
        if (row.kind === "best baselines") overall.low = overall.high = null;
        one.gain = null;
      }
      one.overall = overall.score;
      one.overallCell = overall;
      board.tasks.forEach(function (task) { one["task_" + task] = row.tasks[task].score; });
      return one;
    });
    out.filter(function (r) { return r.kind === "model" && r.overall !== null && !r.superseded_by; })
      .sort(function (a, b) { return b.overall - a.overall; })
      .forEach(function (r, place) { r.rank = place + 1; });
    out.forEach(function (r) {
      if (r.kind !== "model" || r.overall === null || r.superseded_by) r.rank = null;
      var found = statesOf(r), one = found.length === 1 ? found[0] : null, within = found.filter(function (s) { return s[2] || s[3]; });
      r.state_score = relaxed(found);
      r.state_rmsd = average(found.map(function (s) { return s[5]; }));
      r.state_minimum = one ? one[2] || (one[3] ? one[3] + " (host drift subtracted)" : one[6] ? "none of DFT's" : null) : found.length ? within.length + " of " + found.length : null;
      r.state_above = average(within.map(function (s) { return s[4]; }));
      r.state_reason = one ? one[7] || "no value" : found.length ? "no value in any of these charge states" : "not in this entry";
    });
    out.filter(function (r) { return r.superseded_by; }).forEach(function (old) {  /* earlier entries fold under the current one */
      var current = out.filter(function (r) { return r.page === old.superseded_by; })[0];
      (current._children = current._children || []).push(old);
    });
    return out.filter(function (r) { return !r.superseded_by; });
  }
  /* the charge states of a model that are chosen by defect and charge */
  function choice() { return chosen.defect !== "" || chosen.charge !== ""; }
  function matches(s) { return (!chosen.defect || s[0] === chosen.defect) && (!chosen.charge || String(s[1]) === chosen.charge); }
  function statesOf(row) { return choice() && states && row.page ? (states[row.page] || []).filter(matches) : []; }
  function average(values) {
    values = values.filter(function (v) { return v !== null; });
    return values.length ? values.reduce(function (a, b) { return a + b; }, 0) / values.length : null;
  }
  /* the score of the relax task over these charge states: mean of each metric that counts, between its anchors, weighted */
  function relaxed(found) {
    var sum = 0, total = 0;
    data.counted.forEach(function (metric, i) {
      var value = average(found.map(function (s) { return s[8][i]; }));
      if (value === null) return;
      sum += metric[2] * Math.min(1, Math.max(0, (value - metric[0]) / (metric[1] - metric[0])));
      total += metric[2];
    });
    return total > 0 ? sum / total : null;
  }

  function last(a, b, aRow, bRow, column, direction) {  /* what has no value comes last, in both directions */
    if (a === b) return 0;
    if (a === null || a === undefined) return direction === "asc" ? 1 : -1;
    if (b === null || b === undefined) return direction === "asc" ? -1 : 1;
    return a < b ? -1 : 1;
  }
  function score(get) {
    return function (cell) {
      var found = get(cell.getData());
      var box = element("span");
      if (found.score === null) return cell.getData().kind === "model" ? unknown(cell, found.reason) : text(null);
      box.appendChild(element("b", two(found.score)));
      if (found.low !== null && found.high - found.low > 0.005) box.appendChild(element("span", " " + two(found.low) + "–" + two(found.high), "bounds"));
      return box;
    };
  }
  function unknown(cell, reason) {  /* the reason is there by key and touch, too */
    var button = element("button", "n/a", "na");
    button.type = "button";
    button.setAttribute("aria-label", "n/a: " + (reason || "no value"));
    button.addEventListener("click", function (event) {
      event.stopPropagation();
      cell.popup(reason || "no value", "bottom");
    });
    return button;
  }
  function why(get) {
    return function (event, cell) {
      var found = get(cell.getData());
      if (found.score === null) return element("span", found.reason || "no value");
      return found.low === null ? "" : element("span", "all metrics at the worse ends of their intervals: " + two(found.low) + ", at the better ends: " + two(found.high));
    };
  }
  function text(value) { return element("span", value === null || value === undefined ? "–" : String(value)); }
  function plain(format) { return function (cell) { var v = cell.getValue(); return text(v === null || v === undefined ? null : format(v)); }; }
  function numeric(title, field, format, tip, extra) {
    return Object.assign({ title: title, field: field, sorter: last, hozAlign: "right", headerHozAlign: "right", headerSortStartingDir: "desc", formatter: plain(format), headerTooltip: tip }, extra);
  }

  function signed(charge) { return (charge > 0 ? "+" : "") + String(charge).replace("-", "−"); }
  function stateText() { return [chosen.defect, chosen.charge === "" ? "" : signed(Number(chosen.charge))].filter(Boolean).join(" "); }
  function noState(event, cell) { return cell.getValue() === null && cell.getData().kind === "model" ? element("span", cell.getData().state_reason) : ""; }

  function columns() {
    var overall = function (row) { return row.overallCell; };
    var list = [
      numeric("rank", "rank", String, "1 is best. Baselines have no rank.", { sorter: byOverall, headerSortStartingDir: "asc", width: 70, frozen: window.innerWidth > 640 }),
      { title: "model", field: "name", sorter: "string", tooltip: function (event, cell) { return text(cell.getValue()); }, frozen: window.innerWidth > 640, minWidth: 150, maxWidth: window.innerWidth > 640 ? 320 : 190, formatter: function (cell) {
        var row = cell.getData();
        var shown = (row.kind === "baseline" ? "baseline: " : "") + row.name + (row.superseded_by ? ", " + row.date : "");
        if (!row.page) return element("span", shown);
        var link = element("a", shown);
        link.href = row.page;
        return link;
      } },
      { title: "overall", field: "overall", width: 124, sorter: last, headerSortStartingDir: "desc", formatter: score(overall), tooltip: why(overall), hozAlign: "right", headerHozAlign: "right",
        headerTooltip: "Weighted mean of the task scores, 0 to 1; beside it the same at the ends of the 95 % intervals of the metrics." },
      { title: "response to charge", field: "charge_class", width: 122, sorter: "string", headerTooltip: "What the charge-response certificate found.", formatter: function (cell) {
        return cell.getValue() ? element("span", cell.getValue(), "badge " + cell.getValue()) : text(null);
      } },
      numeric("above baseline", "gain", function (v) { return (v < 0 ? "−" : "+") + two(Math.abs(v)); }, "Score above the best baselines on the metrics that these have, at the declared weights. At or below 0 the model adds nothing.", { width: 92 })
    ];
    if (choice()) list.push(
      numeric("relax, " + stateText() + " only", "state_score", two, "Score of the relax task over these charge states.", { width: 110, tooltip: noState }),
      numeric("RMSD of " + stateText() + " (Å)", "state_rmsd", function (v) { return v.toFixed(3); }, "Model's ground state to DFT's, mean over these charge states.", { headerSortStartingDir: "asc", width: 120, tooltip: noState }),
      { title: "in DFT's minimum", field: "state_minimum", width: board.charge_states.filter(matches).length === 1 ? 230 : 110, sorter: "string", formatter: plain(String), tooltip: noState, headerTooltip: "The DFT minimum that the model's ground state lies in; of several charge states, in how many it lies in one." },
      numeric("eV above the ground state", "state_above", function (v) { return v.toFixed(3); }, "DFT energy of that minimum above DFT's ground state; mean over the charge states that end in one.", { headerSortStartingDir: "asc", width: 110, tooltip: noState })
    );
    board.tasks.forEach(function (task) {
      var about = data.tasks.filter(function (t) { return t.task === task; })[0];
      var get = function (row) { return row.tasks[task]; };
      list.push({ title: task.replace(/_/g, " "), field: "task_" + task, width: 124, sorter: last, headerSortStartingDir: "desc", formatter: score(get), tooltip: why(get), hozAlign: "right", headerHozAlign: "right", headerTooltip: about ? about.title + ". Counted: " + about.counted.join(", ") + "." : task });
    });
    return list.concat([
      numeric("counted", "coverage", function (v) { return Math.round(100 * v) + " %"; }, "Share of the weight that could be scored.", { width: 84 }),
      numeric("not converged", "not_converged", String, "Relaxations that failed or did not converge. Each is a miss.", { headerSortStartingDir: "asc", width: 104 }),
      numeric("s per force call", "seconds_per_call", function (v) { return Number(v.toPrecision(2)).toString(); }, "Median time per force call. Point at a value to see the hardware.",
        { headerSortStartingDir: "asc", width: 96, tooltip: function (e, cell) { return element("span", cell.getData().hardware || ""); } }),
      numeric("parameters", "parameters", function (v) { return v.toLocaleString("en"); }, "Number of trained parameters.", { headerSortStartingDir: "asc" }),
      { title: "training data", field: "training_data", sorter: "string", formatter: plain(String), maxWidth: 240, tooltip: function (e, cell) { return text(cell.getValue()); } },
      { title: "in domain", field: "in_domain", sorter: "boolean", formatter: plain(function (v) { return v ? "yes" : "no"; }), headerTooltip: "Whether the training data contain this dataset." },
      { title: "level of theory", field: "level_of_theory", sorter: "string", formatter: plain(String), headerTooltip: "Of the training data. The dataset's own level stands above the table." },
      { title: "package", field: "package", sorter: "string", formatter: plain(String) },
      { title: "date", field: "date", sorter: "string", formatter: plain(String) }
    ]).map(function (column) {
      column.visible = !hidden[column.field];
      column.accessorDownload = harmless;
      return column;
    });
  }

  function harmless(value) {  /* a spreadsheet would calculate a text that begins like a formula */
    return typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : value;
  }
  function passes(row) {
    if (row.kind !== "model") return byId("baselines").checked;
    if (byId("aware").checked && row.charge_class !== "charge-aware") return false;
    if (byId("domain").checked && row.in_domain) return false;
    if (byId("package").value && row.package !== byId("package").value) return false;
    if (byId("theory").value && row.level_of_theory !== byId("theory").value) return false;
    var wanted = byId("search").value.trim().toLowerCase();
    if (!wanted) return true;
    return [row.name, row.model, row.package, row.training_data, row.level_of_theory, row.charge_class].some(function (part) {
      return part && part.toLowerCase().indexOf(wanted) >= 0;
    });
  }

  function remember() {
    var kept = new URLSearchParams();
    kept.set("board", board.id);
    if (byId("search").value) kept.set("q", byId("search").value);
    if (byId("aware").checked) kept.set("aware", "1");
    if (byId("domain").checked) kept.set("outside", "1");
    if (!byId("baselines").checked) kept.set("baselines", "0");
    ["package", "theory"].forEach(function (id) { if (byId(id).value) kept.set(id, byId(id).value); });
    ["defect", "charge"].forEach(function (id) { if (chosen[id]) kept.set(id, chosen[id]); });
    Object.keys(weights).forEach(function (t) { if (weights[t] !== declared[t]) kept.set("w." + t, String(weights[t])); });
    var off = Object.keys(hidden).filter(function (f) { return hidden[f]; });
    if (off.length) kept.set("hide", off.join(","));
    if (sorted && !(sorted.field === "rank" && sorted.dir === "asc")) kept.set("sort", sorted.field + ":" + sorted.dir);
    history.replaceState(null, "", "#" + kept.toString());
  }
  function recall() {
    var kept = new URLSearchParams(location.hash.slice(1));
    board = boards[kept.get("board")] || data.boards[0];
    byId("board").value = board.id;
    byId("search").value = kept.get("q") || "";
    byId("aware").checked = kept.get("aware") === "1";
    byId("domain").checked = kept.get("outside") === "1";
    byId("baselines").checked = kept.get("baselines") !== "0";
    options();
    byId("package").value = kept.get("package") || "";
    byId("theory").value = kept.get("theory") || "";
    ["defect", "charge"].forEach(function (id) { byId(id).value = kept.get(id) || ""; });
    ["package", "theory", "defect", "charge"].forEach(function (id) { if (byId(id).selectedIndex < 0) byId(id).value = ""; });
    choose();
    Object.keys(weights).forEach(function (t) {
      var given = parseFloat(kept.get("w." + t));
      weights[t] = given >= 0 && given <= 10 ? given : declared[t];
    });
    hidden = {};
    (kept.get("hide") || "").split(",").filter(Boolean).forEach(function (f) { hidden[f] = true; });
    var by = (kept.get("sort") || "").split(":");
    sorted = by.length === 2 && (by[1] === "asc" || by[1] === "desc") ? { field: by[0], dir: by[1] } : null;
  }

  function options() {  /* what the board offers */
    function fill(id, all, values) {
      var box = byId(id);
      box.textContent = "";
      [["", all]].concat(values).forEach(function (v) { var one = element("option", v[1]); one.value = v[0]; box.appendChild(one); });
    }
    function seen(field) {
      var found = {};
      board.rows.forEach(function (r) { if (r[field]) found[r[field]] = true; });
      return Object.keys(found).sort().map(function (v) { return [v, v]; });
    }
    fill("package", "all", seen("package"));
    fill("theory", "all", seen("level_of_theory"));
    function every(get) { return board.charge_states.map(get).filter(function (v, i, list) { return list.indexOf(v) === i; }); }
    fill("defect", "all", every(function (s) { return s[0]; }).map(function (d) { return [d, d]; }));
    fill("charge", "all", every(function (s) { return s[1]; }).sort(function (a, b) { return a - b; }).map(function (q) { return [String(q), signed(q)]; }));
  }
  function choose() {
    chosen = { defect: byId("defect").value, charge: byId("charge").value };
    var count = board.charge_states.filter(matches).length;
    byId("chosen").hidden = !choice();
    byId("chosen").textContent = count === 0 ? "This board has no such charge state." :
      "Added columns: " + (count === 1 ? "this charge state" : "these " + count + " charge states") + " only. The relax score is recomputed over them. The other tasks compare charge states with each other: overall, their scores and the ranks stay those of all " + board.states + ".";
  }
  function withStates() {  /* they are in a file of their own, for those who ask */
    if (!choice() || states) return Promise.resolve();
    return window.defectbench.load("data/states.js");
  }

  function count() {
    var shown = table.getData("active").filter(function (r) { return r.kind === "model"; }).length;
    var all = board.rows.filter(function (r) { return r.kind === "model" && !r.superseded_by; }).length;
    byId("count").textContent = shown + " of " + all + " models" + (custom() ? "; your weights, not the declared ones" : "");
  }
  function show() { return withStates().then(build); }
  function build() {  /* a new table for the board */
    byId("about").textContent = board.states + " charge states, " + board.configurations + " configurations, protocol " + board.protocol + ". " + board.note;
    var link = byId("dataset-link");
    link.textContent = board.dataset;
    link.href = "datasets/" + encodeURIComponent(board.dataset) + ".html";
    if (table) table.destroy();
    var list = columns(), known = sorted && list.some(function (c) { return c.field === sorted.field; });
    if (!known) sorted = { field: "rank", dir: "asc" };
    /* of many models only the rows in sight are made */
    table = new Tabulator("#table", {
      maxHeight: board.rows.length > 60 ? "85vh" : false, renderVerticalBuffer: 200,
      data: rows(), columns: list, layout: "fitDataFill", columnDefaults: { headerWordWrap: true }, index: "key", dataTree: board.rows.some(function (r) { return r.superseded_by; }), dataTreeElementColumn: "name",
      dataTreeExpandElement: "<button type='button' class='fold' aria-label='show earlier versions'>+</button>",
      dataTreeCollapseElement: "<button type='button' class='fold' aria-label='hide earlier versions'>−</button>", placeholder: "No model passes these filters.",
      initialSort: [{ column: sorted.field, dir: sorted.dir }],
      rowFormatter: function (row) { row.getElement().classList.toggle("baseline", row.getData().kind !== "model"); }
    });
    table.on("tableBuilt", function () {
      if (!board.rows.every(passes)) table.setFilter(passes);  /* a filter makes all rows anew */
      count();
      table.element.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
      table.element.querySelector(".tabulator-table").setAttribute("role", "presentation");
      table.getColumns().forEach(function (column) {  /* headings sort by key, too */
        var heading = column.getElement();
        heading.tabIndex = 0;
        heading.addEventListener("keydown", function (event) {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          var turned = sorted && sorted.field === column.getField() && sorted.dir === "asc";
          table.setSort(column.getField(), turned ? "desc" : "asc");
        });
      });
    });
    table.on("dataFiltered", function () { setTimeout(count, 0); });
    table.on("dataSorted", function (by) { if (by.length) { sorted = { field: by[0].field, dir: by[0].dir }; remember(); } });
    sliders();
    chooser(list);
    remember();
  }
  function byOverall(a, b, aRow, bRow, column, direction) {  /* by rank, baselines with an overall score among the models */
    var one = aRow.getData().overall, other = bRow.getData().overall;
    if (one === null && other === null) return 0;
    if (one === null) return direction === "asc" ? 1 : -1;
    if (other === null) return direction === "asc" ? -1 : 1;
    return other - one;
  }
  function reweigh() { table.replaceData(rows()).then(function () { table.setSort(sorted.field, sorted.dir); count(); remember(); presets(); }); }

  function sliders() {
    var box = byId("weights");
    box.textContent = "";
    board.tasks.forEach(function (task) {
      var label = element("label"), value = element("output", String(weights[task])), range = element("input");
      range.type = "range"; range.min = "0"; range.max = "10"; range.step = "0.25"; range.value = String(weights[task]);
      label.append(task.replace(/_/g, " ") + ": ", value, range);
      range.addEventListener("input", function () { weights[task] = parseFloat(range.value); value.textContent = range.value; reweigh(); });
      box.appendChild(label);
    });
    presets();
  }
  function preset(name) {
    var chosen = data.presets[name];
    return board.tasks.map(function (t) { return chosen && chosen.indexOf(t) < 0 ? 0 : declared[t]; });
  }
  function presets() {
    var box = byId("presets"), now = board.tasks.map(function (t) { return weights[t]; }).join();
    box.textContent = "";
    ["declared"].concat(Object.keys(data.presets)).forEach(function (name) {
      var wanted = preset(name), button = element("button", name);
      if (!wanted.some(function (w) { return w > 0; })) return;
      button.type = "button";
      button.setAttribute("aria-pressed", String(wanted.join() === now));
      button.addEventListener("click", function () {
        board.tasks.forEach(function (t, i) { weights[t] = wanted[i]; });
        sliders();
        reweigh();
      });
      box.append(button, " ");
    });
  }
  function chooser(list) {
    var box = byId("columns");
    box.textContent = "";
    list.forEach(function (column) {
      if (column.field === "name") return;
      var label = element("label"), tick = element("input");
      tick.type = "checkbox";
      tick.checked = !hidden[column.field];
      label.append(tick, " " + column.title, element("small", column.headerTooltip || ""));
      tick.addEventListener("change", function () {
        hidden[column.field] = !tick.checked;
        if (tick.checked) table.showColumn(column.field); else table.hideColumn(column.field);
        remember();
      });
      box.appendChild(label);
    });
  }

  byId("filters").open = window.innerWidth > 640;
  recall();
  document.querySelectorAll(".interactive").forEach(function (part) { part.hidden = false; });
  byId("board").addEventListener("change", function () { board = boards[this.value]; options(); choose(); show(); });
  ["defect", "charge"].forEach(function (id) { byId(id).addEventListener("change", function () {
    choose();
    sorted = choice() ? { field: "state_score", dir: "desc" } : null;  /* best there first */
    show();
  }); });
  byId("search").addEventListener("input", function () { table.setFilter(passes); remember(); });
  ["aware", "domain", "baselines", "package", "theory"].forEach(function (id) { byId(id).addEventListener("change", function () { table.setFilter(passes); remember(); }); });
  byId("csv").addEventListener("click", function () { table.download("csv", board.id + ".csv"); });

  /* the view as a picture: visible columns and rows as texts in an SVG */
  function svg() {
    var shown = table.getColumns().filter(function (c) { return c.isVisible(); }), dark = getComputedStyle(document.body), rows = [shown.map(function (c) { return c.getDefinition().title; })];
    table.getRows("active").forEach(function (r) {
      rows.push(shown.map(function (c) { var cell = r.getCell(c); return cell ? cell.getElement().textContent.trim() : ""; }));
    });
    var widths = shown.map(function (c, i) { return 16 + 7 * Math.max.apply(null, rows.map(function (r) { return Math.min(r[i].length, 44); })); });
    var width = widths.reduce(function (a, b) { return a + b; }, 24), height = 24 * rows.length + 56;
    function safe(text) { return text.replace(/&/g, "&amp;").replace(/</g, "&lt;"); }
    var parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="' + width + '" height="' + height + '" font-family="system-ui, sans-serif" font-size="12.5" fill="' + dark.color + '">',
      '<rect width="100%" height="100%" fill="' + dark.backgroundColor + '"/>', '<text x="12" y="22" font-weight="600">' + safe(board.title + (custom() ? " (own weights)" : "")) + "</text>"];
    rows.forEach(function (r, n) {
      var x = 12, y = 48 + 24 * n;
      r.forEach(function (text, i) {
        parts.push('<text x="' + x + '" y="' + y + '"' + (n === 0 ? ' font-weight="600"' : "") + ">" + safe(text.length > 44 ? text.slice(0, 43) + "…" : text) + "</text>");
        x += widths[i];
      });
      parts.push('<line x1="12" x2="' + (width - 12) + '" y1="' + (y + 7) + '" y2="' + (y + 7) + '" stroke="#8a8a8a" stroke-opacity=".35"/>');
    });
    return { text: parts.join("") + "</svg>", width: width, height: height };
  }
  function save(blob, ending) {
    var link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = board.id + ending;
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }
  byId("svg").addEventListener("click", function () { save(new Blob([svg().text], { type: "image/svg+xml" }), ".svg"); });
  byId("png").addEventListener("click", function () {
    var made = svg(), image = new Image(), scale = Math.min(2, 8000 / Math.max(made.width, made.height));
    image.onload = function () {
      var canvas = element("canvas");
      canvas.width = made.width * scale; canvas.height = made.height * scale;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(function (blob) { save(blob, ".png"); });
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(made.text);
  });
  byId("switch").addEventListener("click", function () {
    var plain = this.getAttribute("aria-pressed") !== "true";
    this.setAttribute("aria-pressed", String(plain));
    document.documentElement.classList.toggle("tables", plain);
    byId("table").hidden = plain;
  });
  window.addEventListener("hashchange", function () { recall(); show(); });
  show();
})();
