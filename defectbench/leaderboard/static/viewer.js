/* Structures in 3D: one viewer per page, filled from scenes that are loaded when they are asked for. */
"use strict";
(function () {
  var defectbench = window.defectbench, make = defectbench.make, ink = defectbench.ink;
  var waiting = {};
  defectbench.scene = function (name, scene) { waiting[name](scene); };  /* called by the files of the scenes */

  /* positions as points, moved by whole lattice vectors so that the reference atom lies around the defect */
  function inverse(c) {
    var a = c[0], b = c[1], d = c[2];
    function cross(u, v) { return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]; }
    var bc = cross(b, d), ca = cross(d, a), ab = cross(a, b), volume = a[0] * bc[0] + a[1] * bc[1] + a[2] * bc[2];
    return [0, 1, 2].map(function (i) { return [bc[i] / volume, ca[i] / volume, ab[i] / volume]; });
  }
  function points(flat) {
    var out = [];
    for (var i = 0; i < flat.length; i += 3) out.push([flat[i], flat[i + 1], flat[i + 2]]);
    return out;
  }
  function shifts(scene, from) {
    var reciprocal = inverse(scene.cell);
    return from.map(function (p) {
      var apart = [0, 1, 2].map(function (k) { return p[k] - scene.centre[k]; });
      var turns = [0, 1, 2].map(function (j) { return Math.round(apart[0] * reciprocal[0][j] + apart[1] * reciprocal[1][j] + apart[2] * reciprocal[2][j]); });
      return [0, 1, 2].map(function (k) { return -(turns[0] * scene.cell[0][k] + turns[1] * scene.cell[1][k] + turns[2] * scene.cell[2][k]); });
    });
  }
  function plus(p, s) { return [p[0] + s[0], p[1] + s[1], p[2] + s[2]]; }
  function distance(p, q) { return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]); }
  function at(p) { return { x: p[0], y: p[1], z: p[2] }; }

  function atoms(scene, places, shown) {
    var list = shown.map(function (i) { return { elem: scene.symbols[i], x: places[i][0], y: places[i][1], z: places[i][2], bonds: [], bondOrder: [], site: i }; });
    for (var a = 0; a < shown.length; a++) for (var b = a + 1; b < shown.length; b++) {
      var i = shown[a], j = shown[b];
      if (distance(places[i], places[j]) < 1.2 * (scene.radii[scene.symbols[i]] + scene.radii[scene.symbols[j]])) {
        list[a].bonds.push(b); list[a].bondOrder.push(1);
        list[b].bonds.push(a); list[b].bondOrder.push(1);
      }
    }
    return list;
  }

  function build(box) {
    var scenes = JSON.parse(box.querySelector("script[type='application/json']").textContent), root = box.dataset.root || "";
    var controls = make("div", { "class": "controls" }), stage = make("div", { "class": "stage", tabindex: "0", role: "img", "aria-label": "Structure, not loaded yet" }), words = make("p", { "class": "small", role: "status" });
    var chooser = make("select"), layer = make("select"), slider = make("input", { type: "range", min: "0", max: "100", step: "1" });
    var along = make("output", { "class": "small" }), arrows = make("select"), ghost = make("input", { type: "checkbox" }), whole = make("input", { type: "checkbox" });
    var picture = make("button", { type: "button" }, "PNG"), legend = make("p", { "class": "small soft" });
    var viewer = null, scene = null, name = null, cache = {}, first = true;
    function labelled(text, input) { var label = make("label", {}, text + " "); label.appendChild(input); return label; }
    function ticked(text, input) { var label = make("label"); label.append(input, " " + text); return label; }
    scenes.forEach(function (s) { chooser.appendChild(make("option", { value: s.name }, s.title)); });
    [["0", "no arrows"], ["1", "arrows, true length"], ["5", "arrows, 5 times"], ["10", "arrows, 10 times"]].forEach(function (o) { arrows.appendChild(make("option", { value: o[0] }, o[1])); });
    arrows.value = "5";
    ghost.checked = true;
    var layers = labelled("Configuration", layer), sliding = labelled("Relaxation", slider);
    sliding.appendChild(along);
    controls.append(labelled("Charge state", chooser), layers, sliding, labelled("Displacements", arrows), ticked("reference in grey", ghost), ticked("whole cell", whole), picture);
    box.append(controls, stage, words, legend);
    box.hidden = false;

    function current() {
      var chosen = scene.layers[Number(layer.value) || 0], last = chosen.frames.length - 1, t = Number(slider.value) / Number(slider.max) * last;
      var low = chosen.between ? Math.floor(t) : Math.round(t), high = Math.min(low + 1, last), part = chosen.between ? t - low : 0;
      along.textContent = chosen.between ? (part === 0 ? chosen.notes[low] : Math.round(100 * t / last) + " %") : (last > 0 ? "frame " + (low + 1) + " of " + (last + 1) + ": " : "") + chosen.notes[low];
      slider.setAttribute("aria-valuetext", along.textContent);
      return chosen.frames[low].map(function (x, i) { return x + part * (chosen.frames[high][i] - x); });
    }
    function draw() {
      var here = points(current()), base = scene.reference ? points(scene.reference.frames[0]) : here;
      var moves = shifts(scene, base), nearest = here.map(function (p, i) { return plus(p, moves[i]); }), grey = base.map(function (p, i) { return plus(p, moves[i]); });
      var shown = [];
      grey.forEach(function (p, i) { if (whole.checked || distance(p, scene.centre) <= 5.5) shown.push(i); });
      viewer.removeAllModels(); viewer.removeAllShapes(); viewer.removeAllLabels();
      var model = viewer.addModel();
      model.addAtoms(atoms(scene, nearest, shown));
      Object.keys(scene.radii).forEach(function (symbol) {
        model.setStyle({ elem: symbol }, { stick: { radius: 0.1, colorscheme: "Jmol" }, sphere: { radius: 0.22 * scene.radii[symbol], colorscheme: "Jmol" } });
      });
      model.setHoverable({}, true, function (atom) {
        var text = atom.elem + (scene.reference ? ", moved " + distance(nearest[atom.site], grey[atom.site]).toFixed(2) + " Å" : "");
        atom.said = viewer.addLabel(text, { position: at(nearest[atom.site]), fontSize: 13, inFront: true });
      }, function (atom) { if (atom.said) { viewer.removeLabel(atom.said); atom.said = null; } });
      if (scene.reference && ghost.checked) {
        var other = viewer.addModel();
        other.addAtoms(atoms(scene, grey, shown));
        Object.keys(scene.radii).forEach(function (symbol) {
          other.setStyle({ elem: symbol }, { stick: { radius: 0.05, color: "#8a8a8a" }, sphere: { radius: 0.18 * scene.radii[symbol], color: "#8a8a8a", opacity: 0.75 } });
        });
      }
      var scale = Number(arrows.value);
      if (scene.reference && scale > 0) shown.forEach(function (i) {
        var step = [0, 1, 2].map(function (k) { return nearest[i][k] - grey[i][k]; }), length = Math.hypot(step[0], step[1], step[2]);
        if (length * scale <= 0.15) return;
        /* from outside the spheres, which would hide it */
        var start = plus(grey[i], step.map(function (x) { return 0.3 * scene.radii[scene.symbols[i]] * x / length; }));
        viewer.addArrow({ start: at(start), end: at(plus(start, step.map(function (x) { return scale * x; }))), radius: 0.09, radiusRatio: 2.2, mid: 0.7, color: "#d55e00" });
      });
      viewer.addSphere({ center: at(scene.centre), radius: 0.55, color: "#0072b2", opacity: 0.45 });
      if (whole.checked) {
        var c = scene.cell, corner = [0, 1, 2].map(function (k) { return scene.centre[k] - (c[0][k] + c[1][k] + c[2][k]) / 2; });
        [0, 1, 2].forEach(function (k) { [0, 1].forEach(function (m) { [0, 1].forEach(function (n) {
          var from = plus(plus(corner, c[(k + 1) % 3].map(function (x) { return m * x; })), c[(k + 2) % 3].map(function (x) { return n * x; }));
          viewer.addLine({ start: at(from), end: at(plus(from, c[k])), color: "#8a8a8a" });
        }); }); });
      }
      viewer.setBackgroundColor(ink("--paper") || "white");
      if (first) { viewer.zoomTo(); viewer.zoom(stage.clientWidth < stage.clientHeight ? 0.7 : 0.95); viewer.rotate(20, "y"); viewer.rotate(10, "x"); first = false; }
      viewer.render();
      box.dataset.shown = String(shown.length);
      box.dataset.farthest = Math.max.apply(null, nearest.map(function (p, i) { return distance(p, grey[i]); })).toFixed(3);
    }
    function show() {
      layer.textContent = "";
      scene.layers.forEach(function (l, i) { layer.appendChild(make("option", { value: String(i) }, l.label)); });
      layers.hidden = scene.layers.length < 2;
      pick();
      words.textContent = scene.text + ".";
      stage.setAttribute("aria-label", scene.text + ". Arrow keys turn the structure, plus and minus zoom.");
      legend.textContent = "";
      Object.keys(scene.radii).forEach(function (symbol) {
        var swatch = make("span", { "class": "swatch", "aria-hidden": "true" }), colour = (window.$3Dmol.elementColors.Jmol[symbol] || 0x999999);
        swatch.style.background = "#" + colour.toString(16).padStart(6, "0");
        legend.append(swatch, symbol + " ");
      });
      legend.append("· Blue sphere: the defect's site. " + (scene.reference ? "Grey: " + scene.reference.label + ". Arrows point from it to the structure shown, and begin at the surface of the atom. " : "") +
        "Atoms nearer than 1.2 times the sum of their covalent radii are joined. Point at an atom to see how far it moved." +
        (scene.layers.some(function (l) { return l.between; }) ? " The entry holds only both ends of the relaxation: between them the slider goes straight." : ""));
      first = true;
      draw();
    }
    function pick() {
      var chosen = scene.layers[Number(layer.value) || 0], frames = chosen.frames.length;
      slider.max = slider.value = chosen.between ? "100" : String(Math.max(1, frames - 1));
      sliding.hidden = frames < 2;
    }
    function given(wanted) {
      var found = scenes.filter(function (s) { return s.name === wanted; })[0];
      if (found.scene) return Promise.resolve(found.scene);
      if (!cache[wanted]) cache[wanted] = new Promise(function (done, failed) {
        waiting[found.key] = done;
        defectbench.load(root + found.file).catch(failed);
      });
      return cache[wanted];
    }
    function choose(wanted) {
      name = chooser.value = wanted;
      given(wanted).then(function (found) {
        if (name !== wanted) return;
        scene = found;
        if (!viewer) {
          viewer = window.$3Dmol.createViewer(stage, { antialias: true });
          if (!viewer) throw new Error("no WebGL");
        }
        show();
      }).catch(function (error) {
        stage.hidden = true;
        words.textContent = "The structures cannot be shown (" + error.message + "). " + (scene ? scene.text + "." : "");
      });
    }
    chooser.addEventListener("change", function () { choose(chooser.value); });
    layer.addEventListener("change", function () { pick(); draw(); });
    [slider, arrows, ghost, whole].forEach(function (input) { input.addEventListener("input", function () { if (input === whole) first = true; draw(); }); });
    picture.addEventListener("click", function () {
      var link = make("a", { href: viewer.pngURI(), download: (box.dataset.name || "structure") + "-" + name + ".png" });
      link.click();
    });
    stage.addEventListener("keydown", function (event) {
      var turn = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] }[event.key], zoom = { "+": 1.15, "-": 1 / 1.15 }[event.key];
      if (!viewer || !(turn || zoom)) return;
      event.preventDefault();
      if (turn) viewer.rotate(turn[0], turn[1]); else viewer.zoom(zoom);
      viewer.render();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { if (scene) draw(); });
    document.querySelectorAll("[data-show]").forEach(function (link) { link.addEventListener("click", function () { start().then(function () { choose(link.dataset.show); }); }); });
    var started = null;
    function start() {
      if (!started) started = (window.$3Dmol ? Promise.resolve() : defectbench.load(root + "static/3dmol/3Dmol-min.js")).catch(function (error) { words.textContent = error.message; });
      return started;
    }
    new IntersectionObserver(function (entries, observer) {
      if (!entries.some(function (e) { return e.isIntersecting; })) return;
      observer.disconnect();
      start().then(function () { if (!name) choose(scenes[0].name); });
    }, { rootMargin: "200px" }).observe(box);
  }
  document.querySelectorAll(".viewer").forEach(build);
})();
