// The report page: draws its charts and its gallery from the JSON inside the page. No library.
// Text reaches the page as text nodes only, so markup in the name of a class is shown as it is.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = [
  "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f00", "#666666", "#882255", "#44aa99",
];
const KINDS = {
  correct: "#00873c", ignored: "#8a8a8a", Loc: "#0072b2", Sim: "#e69f00", Oth: "#cc79a7", BG: "#d62728",
};
const WRONG = ["Loc", "Sim", "Oth", "BG"];
const OBJECT = "#0033cc", FLAGGED = "#8a8a8a", MISSED = "#111111";
const GRID = "#e3e6ea", AXIS = "#888";
const ALL = "all classes";

const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

// A new last child of `parent`; below an svg element, one of its name space.
function make(parent, tag, attributes = {}, text = undefined) {
  const svg = parent.namespaceURI === SVG || tag === "svg";
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

// A method has the same colour in every chart.
function colour(name, names) {
  const order = data.methods.includes(name) ? data.methods : names;
  return COLOURS[order.indexOf(name) % COLOURS.length];
}

// The legend: a patch of colour and a name each; `paint` gives the colour of a name.
function legend(parent, names, paint) {
  const line = make(parent, "div");
  for (const name of names) {
    const key = make(line, "span", {class: "key"});
    make(key, "i", {style: "background:" + paint(name)});
    key.append(name);
  }
}

function card(parent, title) {
  const box = make(parent, "div", {class: "card"});
  make(box, "h3", {}, title);
  return box;
}

function select(parent, label, values, change) {
  const line = make(parent, "label", {}, label + " ");
  const box = make(line, "select", {"aria-label": label});
  for (const value of values) make(box, "option", {value}, value);
  box.addEventListener("change", change);
  return box;
}

// ---- Charts ----

const SIZE = {width: 460, height: 280, left: 48, right: 24, top: 10, bottom: 40};

// Round values between low and high to write at an axis.
function ticks(low, high, log) {
  const values = [];
  if (log) {
    const steps = high / low > 200 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of steps) values.push(step * 10 ** power);
    }
  } else {
    const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= raw * 0.999);
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-6; k++) values.push(k * step);
  }
  return values.filter(value => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9) || value === 0);
}

const plain = value => Math.abs(value) >= 1000 ? value.toLocaleString("en") : String(+value.toPrecision(3));

// Least and greatest x and y that the chart shows.
function range(points, spec) {
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (spec.unit) [y0, y1] = [0, 1];
  else if (spec.zero) y0 = Math.min(0, y0);
  if (spec.dots) {  // room for the labels
    x0 /= spec.log ? 1.6 : 1;
    x1 *= 1.9;
    const pad = (y1 - y0) * 0.2 || 0.05;
    y0 -= pad;
    y1 += pad;
  }
  return [x0, x0 === x1 ? x1 + 1 : x1, y0, y0 === y1 ? y1 + 1 : y1];
}

function axes(svg, spec, [x0, x1, y0, y1], X, Y) {
  const {width, height, left, right, top, bottom} = SIZE, floor = height - bottom, end = width - right;
  for (const value of ticks(y0, y1, false)) {
    make(svg, "line", {x1: left, x2: end, y1: Y(value), y2: Y(value), stroke: GRID});
    make(svg, "text", {x: left - 5, y: Y(value) + 4, "text-anchor": "end"}, plain(value));
  }
  for (const value of ticks(x0, x1, spec.log)) {
    make(svg, "line", {x1: X(value), x2: X(value), y1: floor, y2: floor + 4, stroke: AXIS});
    make(svg, "text", {x: X(value), y: floor + 16, "text-anchor": "middle"}, plain(value));
  }
  make(svg, "line", {x1: left, x2: end, y1: floor, y2: floor, stroke: AXIS});
  const middle = (top + floor) / 2;
  make(svg, "text", {x: (left + end) / 2, y: height - 6, "text-anchor": "middle"}, spec.x);
  make(svg, "text", {x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})`}, spec.y);
}

// One chart of lines, or of labelled points where `dots` is set. See `curves` of page.page in Python.
// x, y: names of the axes;  series: name -> points [x, y];  log: x on a logarithmic scale;
// unit: y from 0 to 1;  zero: y from 0 on.
function chart(box, spec) {
  const visible = point => point[1] !== null && (!spec.log || point[0] > 0);
  const points = Object.values(spec.series).flat().filter(visible);
  if (!points.length) {
    make(box, "p", {class: "note"}, "Nothing to show.");
    return;
  }
  const {width, height, left, right, top, bottom} = SIZE;
  const limits = range(points, spec), [x0, x1, y0, y1] = limits;
  const scale = value => spec.log ? Math.log10(value) : value;
  const X = value => left + (scale(value) - scale(x0)) / (scale(x1) - scale(x0)) * (width - left - right);
  const Y = value => height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom);
  const svg = make(box, "svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.y + " against " + spec.x,
  });
  axes(svg, spec, limits, X, Y);

  const names = Object.keys(spec.series), paint = name => colour(name, names);
  for (const name of names) {
    const line = spec.series[name].filter(visible);
    if (spec.dots) {
      for (const [x, y] of line) {
        const dot = make(svg, "circle", {cx: X(x), cy: Y(y), r: 5, fill: paint(name)});
        make(dot, "title", {}, `${name}: ${plain(x)}, ${plain(y)}`);
        make(svg, "text", {x: X(x) + 8, y: Y(y) + 4}, name);
      }
    } else {
      const d = line.map(([x, y], i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`).join("");
      const path = make(svg, "path", {d, fill: "none", stroke: paint(name), "stroke-width": 2});
      make(path, "title", {}, name);
    }
  }
  if (!spec.dots) legend(box, names, paint);
}

function charts() {
  const grid = byId("charts");
  const box = card(grid, "Precision-recall curves");
  const pick = select(box, "class", Object.keys(data.precision_recall), draw);
  const body = make(box, "div");
  function draw() {
    body.replaceChildren();
    chart(body, {x: "recall", y: "precision", unit: true, series: data.precision_recall[pick.value]});
  }
  pick.value = ALL;
  if (!pick.value) pick.selectedIndex = 0;
  if (pick.value) draw();
  for (const [title, spec] of Object.entries(data.curves)) chart(card(grid, title), spec);
}

// ---- Errors ----

// Horizontal bars. rows: [name, parts], parts: [value, colour, title];
// limit: value of a full bar; text: parts -> label.
function bars(box, rows, limit, text) {
  const width = 460, step = 26, left = 110;
  const svg = make(box, "svg", {viewBox: `0 0 ${width} ${rows.length * step + 24}`, role: "img"});
  rows.forEach(([name, parts], k) => {
    make(svg, "text", {x: left - 6, y: k * step + 17, "text-anchor": "end"}, name);
    let x = left;
    for (const [value, paint, title] of parts) {
      const length = Math.max(0, value) / limit * (width - left - 60);
      const bar = make(svg, "rect", {x, y: k * step + 4, width: length, height: 18, fill: paint});
      make(bar, "title", {}, title);
      x += length;
    }
    make(svg, "text", {x: x + 5, y: k * step + 17}, text(parts));
  });
}

function errorCharts() {
  const section = byId("errors");
  const line = make(section, "div"), grid = make(section, "div", {class: "grid"});
  const type = select(line, "class", [ALL, ...data.classes], draw);
  const top = select(line, "top false positives per class", data.top, draw);

  function shares(name) {
    const rows = data.errors[name].filter(row => row.class === type.value && String(row.top) === top.value);
    return rows.map(row => {
      const share = row.share || 0;
      return [share, KINDS[row.kind], `${row.kind}: ${row.count}, ${(share * 100).toFixed(0)} %`];
    });
  }
  function draw() {
    grid.replaceChildren();
    const box = card(grid, "Top-scored false positives by kind of error");
    legend(box, WRONG, kind => KINDS[kind]);
    bars(box, data.methods.map(name => [name, shares(name)]), 1, () => "");

    const effects = name => data.effects[name].filter(row => row.class === type.value);
    const limit = Math.max(0.01, ...data.methods.flatMap(effects).map(row => row.gain || 0));
    for (const name of data.methods) {
      const rows = effects(name).map(row => [
        `${row.kind} (${row.count})`, [[row.gain || 0, KINDS[row.kind] || MISSED, row.kind]],
      ]);
      const gain = parts => "+" + parts[0][0].toFixed(3);
      bars(card(grid, `${name}: AP gain from fixing one kind of error`), rows, limit, gain);
    }
  }
  draw();
}

// ---- Gallery ----
// Rows of `gallery.describe` in Python: objects [x1, y1, x2, y2, class, flag],
// detections [x1, y1, x2, y2, class, score, kind, duplicate].

// The image in a figure of its own; returns its svg, in pixels of the image.
function figure(row, image, title) {
  const fig = make(row, "figure"), svg = make(fig, "svg", {viewBox: `0 0 ${image.width} ${image.height}`});
  make(svg, "image", {href: image.source, width: image.width, height: image.height});
  make(fig, "figcaption", {}, title);
  return svg;
}

// A box with its label. unit: pixels of the image for one of the figure.
function outline(svg, [x1, y1, x2, y2], paint, text, dashed, unit) {
  const rect = make(svg, "rect", {
    x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", stroke: paint, "stroke-width": 2 * unit,
  });
  if (dashed) rect.setAttribute("stroke-dasharray", `${5 * unit} ${4 * unit}`);
  make(rect, "title", {}, text);
  const style = `font-size:${11 * unit}px;fill:${paint}`;
  make(svg, "text", {x: x1 + 2 * unit, y: Math.max(y1 - 3 * unit, 11 * unit), style}, text);
}

function drawObject(svg, object, unit) {
  const [, , , , name, flag] = object;
  outline(svg, object, flag ? FLAGGED : OBJECT, name + (flag ? ` (${flag})` : ""), !!flag, unit);
}

function drawDetection(svg, detection, unit) {
  const [, , , , name, score, kind, duplicate] = detection;
  const remark = duplicate ? "duplicate" : kind === "correct" ? "" : kind;
  outline(svg, detection, KINDS[kind], `${name} ${score.toFixed(2)} ${remark}`.trim(), false, unit);
}

function gallery() {
  const filters = byId("filters"), list = byId("gallery"), count = byId("count");

  function group(title) {
    const set = make(filters, "fieldset");
    make(set, "legend", {}, title);
    return set;
  }
  function choices(title, names) {
    const set = group(title);
    return names.map(name => {
      const label = make(set, "label"), box = make(label, "input", {type: "checkbox", value: name, name: title});
      box.checked = true;
      label.append(" " + name);
      box.addEventListener("change", draw);
      return box;
    });
  }
  const checkedValues = boxes => new Set(boxes.filter(box => box.checked).map(box => box.value));

  const methods = choices("method", data.methods);
  const kinds = choices("kind of error", [...Object.keys(KINDS), "missed"]);
  const type = select(group("class"), "class", [ALL, ...data.classes], draw);
  const line = group("detections per image");
  const most = make(line, "input", {
    type: "range", min: 1, max: data.best, value: Math.min(5, data.best), "aria-label": "detections per image",
  });
  const shown = make(line, "span");
  most.addEventListener("input", draw);
  const filled = make(line, "label", {}, " only images with detections or missed objects ");
  const only = make(filled, "input", {type: "checkbox"});
  only.addEventListener("change", draw);

  // What the filters leave of a method's boxes and of the objects that it missed.
  function filtered(image, method, shownKinds) {
    const fits = row => type.value === ALL || row[4] === type.value;
    const best = image.detections[method].slice(0, +most.value);
    const detections = best.filter(row => shownKinds.has(row[6]) && fits(row));
    const fates = image.fates[method];
    const missed = image.objects.filter((row, i) => fits(row) && fates[i] && fates[i] !== "found");
    return {method, detections, missed: shownKinds.has("missed") ? missed : []};
  }
  function drawImage(image, views) {
    const unit = Math.max(image.width, image.height) / 320;
    const row = make(list, "div", {class: "row"});
    make(row, "h3", {}, image.id);
    const figures = make(row, "div", {class: "shots"});
    const objects = figure(figures, image, "ground truth");
    for (const object of image.objects) {
      if (type.value === ALL || object[4] === type.value) drawObject(objects, object, unit);
    }
    for (const {method, detections, missed} of views) {
      const title = `${method}: ${detections.length} detections` + (missed.length ? `, ${missed.length} missed` : "");
      const svg = figure(figures, image, title);
      for (const object of missed) outline(svg, object, MISSED, "missed " + object[4], true, unit);
      for (const detection of [...detections].reverse()) drawDetection(svg, detection, unit);  // the best lies on top
    }
  }
  function draw() {
    list.replaceChildren();
    shown.textContent = " " + most.value;
    const shownMethods = checkedValues(methods), shownKinds = checkedValues(kinds);
    let images = 0, total = 0;
    for (const image of data.images) {
      const views = data.methods.filter(name => shownMethods.has(name)).map(name => filtered(image, name, shownKinds));
      const boxes = views.reduce((sum, view) => sum + view.detections.length + view.missed.length, 0);
      if (only.checked && !boxes) continue;
      images++;
      total += boxes;
      drawImage(image, views);
    }
    count.textContent = `${images} images, ${total} detections and missed objects shown.`;
  }
  legend(filters, [...Object.keys(KINDS), "missed"], kind => KINDS[kind] || MISSED);
  draw();
}

charts();
errorCharts();
gallery();
