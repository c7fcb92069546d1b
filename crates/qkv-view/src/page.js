// Draws, for the word that is pointed at, an arc to every word it attends to, and frames its row in every heat map.
(function () {
  "use strict";
  var NS = "http://www.w3.org/2000/svg";
  function add(parent, name, attributes) {
    var node = document.createElementNS(NS, name);
    Object.keys(attributes).forEach(function (key) { node.setAttribute(key, attributes[key]); });
    parent.appendChild(node);
    return node;
  }
  function label(node, text) { add(node, "title", {}).textContent = text; }

  document.querySelectorAll(".picture").forEach(function (section) {
    var data = JSON.parse(section.querySelector(".data").textContent);
    var buttons = Array.prototype.slice.call(section.querySelectorAll(".word"));
    var words = buttons.map(function (button) { return button.firstChild ? button.firstChild.textContent : ""; });
    var count = words.length;
    if (count === 0) { return; }
    var centres = [], x = 12;
    data.widths.forEach(function (width) {
      var room = Math.max(width, 22) + 24;
      centres.push(x + room / 2);
      x += room;
    });
    var total = x + 12, held = null, shown = -1;

    function arcs(box, heads, query) {
      box.textContent = "";
      var tallest = 0;
      heads.forEach(function (weights) {
        for (var key = 0; key !== count; key += 1) {
          if ((weights[query * count + key] || 0) > 0.02 * data.full) {
            tallest = Math.max(tallest, Math.abs(centres[key] - centres[query]));
          }
        }
      });
      var height = Math.max(34, Math.min(150, tallest * 0.42)), base = height + 10;
      var svg = add(box, "svg", { width: total, height: base + 26, role: "img" });
      heads.forEach(function (weights, head) {
        // Heads that look at the same word lie beside each other, not on top of each other.
        var shift = (head - (heads.length - 1) / 2) * 4;
        for (var key = 0; key !== count; key += 1) {
          var weight = weights[query * count + key];
          if (weight === null || !(weight > 0.02 * data.full)) { continue; }
          var share = Math.min(1, weight / data.full);
          var look = {
            stroke: "var(--c" + (head % 8) + ")",
            "stroke-width": (0.8 + 4.2 * share).toFixed(2),
            "stroke-opacity": (0.25 + 0.75 * Math.sqrt(share)).toFixed(3)
          };
          var from = centres[query], to = centres[key] + shift, node;
          if (key === query) {
            look.cx = to; look.cy = base - 9; look.rx = 5; look.ry = 8;
            node = add(svg, "ellipse", look);
          } else {
            var lift = Math.min(height, Math.abs(to - from) * 0.42 + 6) * 4 / 3;
            look.d = "M" + from + " " + base + "C" + from + " " + (base - lift) + " " + to + " " + (base - lift) +
              " " + to + " " + base;
            node = add(svg, "path", look);
          }
          label(node, "head " + (head + 1) + ": " + words[query] + " → " + words[key] + ": " + weight.toFixed(4));
        }
      });
      words.forEach(function (word, index) {
        var text = add(svg, "text", { x: centres[index], y: base + 17 });
        text.textContent = word;
        if (index === query) { text.setAttribute("class", "on"); }
      });
    }

    function show(query) {
      if (query === shown) { return; }
      shown = query;
      buttons.forEach(function (button, index) {
        button.classList.toggle("on", index === query);
        button.setAttribute("aria-pressed", index === query ? "true" : "false");
      });
      section.querySelectorAll(".arcs").forEach(function (box) {
        arcs(box, data.layers[Number(box.dataset.layer)], query);
      });
      section.querySelectorAll(".heat").forEach(function (svg) {
        var cell = Number(svg.dataset.cell), mark = svg.querySelector(".mark");
        if (!mark) {
          mark = add(svg, "rect", { "class": "mark", x: svg.dataset.left, width: cell * count, height: cell, rx: 3 });
        }
        mark.setAttribute("y", Number(svg.dataset.top) + query * cell);
        svg.querySelectorAll(".q").forEach(function (text, index) { text.classList.toggle("on", index === query); });
      });
    }

    buttons.forEach(function (button, index) {
      button.addEventListener("mouseenter", function () { show(index); });
      button.addEventListener("focus", function () { show(index); });
      button.addEventListener("click", function () { held = index; show(index); });
    });
    section.querySelectorAll(".heat").forEach(function (svg) {
      svg.addEventListener("mousemove", function (event) {
        var row = Math.floor((event.clientY - svg.getBoundingClientRect().top - svg.dataset.top) / svg.dataset.cell);
        if (row >= 0 && count > row) { show(row); }
      });
    });
    // Whatever was clicked stays chosen when the pointer leaves.
    section.addEventListener("mouseleave", function () { if (held !== null) { show(held); } });
    // The word before the closing full stop: in most examples the one that needs its context.
    show(Math.max(0, count - 2));
  });
})();
