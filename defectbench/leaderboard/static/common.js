/* What the viewer and the figures share. */
"use strict";
window.defectbench = {
  make: function (name, attributes, text) {
    var made = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text !== undefined) made.textContent = text;
    return made;
  },
  ink: function (name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); },
  load: function (source) {  /* a script, not fetch: that does not work from the disk */
    return new Promise(function (done, failed) {
      var script = document.createElement("script");
      script.src = source;
      script.onload = done;
      script.onerror = function () { failed(new Error(source + " cannot be loaded")); };
      document.head.appendChild(script);
    });
  }
};
