"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f00", "#666666", "#882255", "#44aa99"];
const KINDS = {correct: "#00873c", ignored: "#8a8a8a", Loc: "#0072b2", Sim: "#e69f00", Oth: "#cc79a7", BG: "#d62728"};
const WRONG = ["Loc", "Sim", "Oth", "BG"];
const MISSED = "#111111";
const SVG = "http://www.w3.org/2000/svg";

function make(parent, tag, attributes, text) {
  const svg = parent.namespaceURI === SVG || tag === "svg";
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}
const colour = name => COLOURS[Math.max(0, Object.keys(slots).indexOf(name)) % COLOURS.length];
const slots = Object.fromEntries(data.methods.map(name => [name, 1]));
function keys(parent, names, colours) {
  const line = make(parent, "div");
  for (const name of names) { const key = make(line, "span", {class: "key"}); make(key, "i", {style: "background:" + colours(name)}); key.append(name); }
}
function card(parent, title) { const box = make(parent, "div", {class: "card"}); make(box, "h3", {}, title); return box; }
function select(parent, label, values, change) {
  const line = make(parent, "label", {}, label + " ");
  const box = make(line, "select", {"aria-label": label});
  for (const value of values) make(box, "option", {value}, value);
  box.addEventListener("change", change);
  return box;
}
function ticks(low, high, log) {
  const values = [];
  if (log) { for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) for (const m of high / low > 200 ? [1] : [1, 2, 5]) values.push(m * 10 ** p); }
  else {
    const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-6; k++) values.push(k * step);
  }
  return values.filter(v => v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9) || v === 0);
}
const plain = value => Math.abs(value) >= 1000 ? value.toLocaleString("en") : String(+value.toPrecision(3));

// One chart of lines, or of labelled points where `dots` is set.
function chart(box, spec) {
  const points = Object.values(spec.series).flat().filter(p => p[1] !== null && (!spec.log || p[0] > 0));
  if (!points.length) { make(box, "p", {class: "note"}, "Nothing to show."); return; }
  const W = 460, H = 280, L = 48, R = 24, T = 10, B = 40;
  const xs = points.map(p => p[0]), ys = points.map(p => p[1]);
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (spec.unit) [y0, y1] = [0, 1]; else if (spec.zero) y0 = Math.min(0, y0);
  if (spec.dots) { x0 /= spec.log ? 1.6 : 1; x1 *= 1.9; const pad = (y1 - y0) * 0.2 || 0.05; y0 -= pad; y1 += pad; }
  if (x0 === x1) x1 = x0 + 1;
  if (y0 === y1) y1 = y0 + 1;
  const scale = v => spec.log ? Math.log10(v) : v;
  const X = v => L + (scale(v) - scale(x0)) / (scale(x1) - scale(x0)) * (W - L - R);
  const Y = v => H - B - (v - y0) / (y1 - y0) * (H - T - B);
  const svg = make(box, "svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": spec.y + " against " + spec.x});
  for (const v of ticks(y0, y1, false)) { make(svg, "line", {x1: L, x2: W - R, y1: Y(v), y2: Y(v), stroke: "#e3e6ea"}); make(svg, "text", {x: L - 5, y: Y(v) + 4, "text-anchor": "end"}, plain(v)); }
  for (const v of ticks(x0, x1, spec.log)) { make(svg, "line", {x1: X(v), x2: X(v), y1: H - B, y2: H - B + 4, stroke: "#888"}); make(svg, "text", {x: X(v), y: H - B + 16, "text-anchor": "middle"}, plain(v)); }
  make(svg, "line", {x1: L, x2: W - R, y1: H - B, y2: H - B, stroke: "#888"});
  make(svg, "text", {x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle"}, spec.x);
  make(svg, "text", {x: 12, y: (T + H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(T + H - B) / 2})`}, spec.y);
  const names = Object.keys(spec.series), paint = n => slots[n] ? colour(n) : COLOURS[names.indexOf(n) % COLOURS.length];
  for (const name of names) {
    const line = spec.series[name].filter(p => p[1] !== null && (!spec.log || p[0] > 0));
    if (spec.dots) for (const p of line) {
      const dot = make(svg, "circle", {cx: X(p[0]), cy: Y(p[1]), r: 5, fill: paint(name)});
      make(dot, "title", {}, `${name}: ${plain(p[0])}, ${plain(p[1])}`);
      make(svg, "text", {x: X(p[0]) + 8, y: Y(p[1]) + 4}, name);
    } else {
      const path = make(svg, "path", {d: line.map((p, i) => (i ? "L" : "M") + X(p[0]).toFixed(1) + " " + Y(p[1]).toFixed(1)).join(""), fill: "none", stroke: paint(name), "stroke-width": 2});
      make(path, "title", {}, name);
    }
  }
  if (!spec.dots) keys(box, names, paint);
}

function charts() {
  const grid = document.getElementById("charts");
  const box = card(grid, "Precision against recall");
  const pick = select(box, "class", Object.keys(data.precision_recall), () => draw());
  const body = make(box, "div");
  function draw() { body.replaceChildren(); chart(body, {x: "recall", y: "precision", unit: true, series: data.precision_recall[pick.value]}); }
  pick.value = "all classes"; if (!pick.value) pick.selectedIndex = 0;
  if (pick.value) draw();
  for (const [title, spec] of Object.entries(data.curves)) chart(card(grid, title), spec);
}

function errorCharts() {
  const place = document.getElementById("errors");
  const line = make(place, "div"), grid = make(place, "div", {class: "grid"});
  const type = select(line, "class", ["all classes", ...data.classes], () => draw());
  const top = select(line, "best false positives of each class", data.top, () => draw());
  function bars(box, rows, limit, text) {
    const W = 460, step = 26, L = 110, svg = make(box, "svg", {viewBox: `0 0 ${W} ${rows.length * step + 24}`, role: "img"});
    rows.forEach(([name, parts], k) => {
      make(svg, "text", {x: L - 6, y: k * step + 17, "text-anchor": "end"}, name);
      let x = L;
      for (const [value, paint, title] of parts) {
        const width = Math.max(0, value) / limit * (W - L - 60);
        const bar = make(svg, "rect", {x, y: k * step + 4, width, height: 18, fill: paint});
        make(bar, "title", {}, title);
        x += width;
      }
      make(svg, "text", {x: x + 5, y: k * step + 17}, text(parts));
    });
  }
  function draw() {
    grid.replaceChildren();
    const shares = card(grid, "Shares among the best-scored false positives");
    keys(shares, WRONG, kind => KINDS[kind]);
    bars(shares, data.methods.map(name => [name, data.errors[name].filter(r => r.class === type.value && String(r.top) === top.value)
      .map(r => [r.share || 0, KINDS[r.kind], `${r.kind}: ${r.count}, ${((r.share || 0) * 100).toFixed(0)} %`])]), 1, () => "");
    for (const name of data.methods) {
      const rows = data.effects[name].filter(r => r.class === type.value);
      const limit = Math.max(0.01, ...data.methods.flatMap(m => data.effects[m].filter(r => r.class === type.value).map(r => r.gain || 0)));
      bars(card(grid, `${name}: gain in average precision if mended`), rows.map(r => [`${r.kind} (${r.count})`,
        [[r.gain || 0, KINDS[r.kind] || MISSED, r.kind]]]), limit, parts => "+" + parts[0][0].toFixed(3));
    }
  }
  draw();
}

function gallery() {
  const place = document.getElementById("filters"), list = document.getElementById("gallery"), count = document.getElementById("count");
  function boxes(title, names) {
    const set = make(place, "fieldset"); make(set, "legend", {}, title);
    return names.map(name => {
      const label = make(set, "label"), box = make(label, "input", {type: "checkbox", value: name, name: title});
      box.checked = true; label.append(" " + name); box.addEventListener("change", draw); return box;
    });
  }
  const methods = boxes("method", data.methods), kinds = boxes("error type", [...Object.keys(KINDS), "missed"]);
  const set = make(place, "fieldset"); make(set, "legend", {}, "class");
  const type = select(set, "class", ["all classes", ...data.classes], draw);
  const less = make(place, "fieldset"); make(less, "legend", {}, "boxes of an image");
  const best = make(less, "input", {type: "range", min: 1, max: data.best, value: Math.min(5, data.best), "aria-label": "boxes of an image"});
  const shown = make(less, "span"); best.addEventListener("input", draw);
  const only = make(make(less, "label", {}, " only images with something left "), "input", {type: "checkbox"}); only.addEventListener("change", draw);
  const on = set => new Set(set.filter(b => b.checked).map(b => b.value));
  function figure(row, image, title) {
    const fig = make(row, "figure"), svg = make(fig, "svg", {viewBox: `0 0 ${image.width} ${image.height}`});
    make(svg, "image", {href: image.source, width: image.width, height: image.height});
    make(fig, "figcaption", {}, title);
    return svg;
  }
  function box(svg, b, paint, text, dashed, unit) {
    const rect = make(svg, "rect", {x: b[0], y: b[1], width: b[2] - b[0], height: b[3] - b[1], fill: "none", stroke: paint, "stroke-width": 2 * unit});
    if (dashed) rect.setAttribute("stroke-dasharray", `${5 * unit} ${4 * unit}`);
    make(rect, "title", {}, text);
    make(svg, "text", {x: b[0] + 2 * unit, y: Math.max(b[1] - 3 * unit, 11 * unit), style: `font-size:${11 * unit}px;fill:${paint}`}, text);
  }
  function draw() {
    list.replaceChildren(); shown.textContent = " " + best.value;
    const M = on(methods), K = on(kinds), fits = name => type.value === "all classes" || name === type.value;
    let images = 0, total = 0;
    for (const image of data.images) {
      const unit = Math.max(image.width, image.height) / 320;
      const kept = {}, lost = {};
      let left = 0;
      for (const m of data.methods.filter(m => M.has(m))) {
        kept[m] = image.detections[m].slice(0, +best.value).filter(d => K.has(d[6]) && fits(d[4]));
        lost[m] = K.has("missed") ? image.objects.filter((o, i) => fits(o[4]) && image.fates[m][i] && image.fates[m][i] !== "found") : [];
        left += kept[m].length + lost[m].length;
      }
      if (only.checked && !left) continue;
      images++; total += left;
      const row = make(list, "div", {class: "row"}); make(row, "h3", {}, image.id);
      const shots = make(row, "div", {class: "shots"});
      const svg = figure(shots, image, "objects");
      for (const o of image.objects.filter(o => fits(o[4]))) box(svg, o, o[5] ? "#8a8a8a" : "#0033cc", o[4] + (o[5] ? ` (${o[5]})` : ""), !!o[5], unit);
      for (const m of Object.keys(kept)) {
        const view = figure(shots, image, `${m}: ${kept[m].length} boxes` + (lost[m].length ? `, ${lost[m].length} missed` : ""));
        for (const o of lost[m]) box(view, o, MISSED, "missed " + o[4], true, unit);
        for (const d of [...kept[m]].reverse()) box(view, d, KINDS[d[6]], `${d[4]} ${d[5].toFixed(2)} ${d[7] ? "duplicate" : d[6] === "correct" ? "" : d[6]}`.trim(), false, unit);
      }
    }
    count.textContent = `${images} images, ${total} boxes and missed objects shown.`;
  }
  keys(place, [...Object.keys(KINDS), "missed"], kind => KINDS[kind] || MISSED);
  draw();
}
charts(); errorCharts(); gallery();
