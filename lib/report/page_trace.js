// The trace page: how a detector treats one image, drawn from the JSON inside the page. No library.
// Text reaches the page as text nodes only, so markup in the name of a class is shown as it is.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const REGION = "#0033cc", DETECTION = "#00a040", REMOVED = "#d62728", OTHER = "#ffffff90";

const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const svg = byId("picture").appendChild(document.createElementNS(SVG, "svg"));
svg.setAttribute("viewBox", `0 0 ${data.width} ${data.height}`);
const unit = Math.max(data.width, data.height) / 640;  // pixels of the image for one of the page
let selected = 0;  // index of the detection shown

function add(parent, tag, text = undefined) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

function shape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  svg.appendChild(node);
  return node;
}

function outline([x1, y1, x2, y2], paint, width, dashed = false) {
  const rect = shape("rect", {
    x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", stroke: paint, "stroke-width": width * unit,
  });
  if (dashed) rect.setAttribute("stroke-dasharray", `${6 * unit} ${4 * unit}`);
}

// A cell is text, or an element.
function table(parent, head, rows) {
  const element = add(parent, "table"), line = add(add(element, "thead"), "tr"), body = add(element, "tbody");
  for (const name of head) add(line, "th", name);
  for (const row of rows) {
    const line = add(body, "tr");
    for (const cell of row) {
      if (cell instanceof Node) add(line, "td").append(cell);
      else add(line, "td", cell);
    }
  }
}

// The region's score for every class, the highest first, each with a bar; null where the class has none.
function scoreRows(scores) {
  const known = scores.filter(score => score !== null), low = Math.min(...known), high = Math.max(...known);
  const order = data.classes.map((name, k) => k).sort((a, b) => (scores[b] ?? -1e9) - (scores[a] ?? -1e9));
  return order.map(k => {
    const score = scores[k], bar = document.createElement("span");
    bar.className = "bar";
    bar.style.width = (score === null ? 0 : 4 + 150 * (score - low) / (high - low || 1)) + "px";
    return [data.classes[k], score === null ? "none" : score.toFixed(4), bar];
  });
}

// What each place of a window adds to its score, as squares: green for it, red against it.
function partsPicture(parts) {
  const picture = document.createElementNS(SVG, "svg"), largest = Math.max(...parts.flat().map(Math.abs)) || 1;
  picture.setAttribute("class", "parts");
  picture.setAttribute("viewBox", `0 0 ${parts[0].length} ${parts.length}`);
  parts.forEach((row, y) => row.forEach((value, x) => {
    const square = document.createElementNS(SVG, "rect");
    const attributes = {
      x, y, width: 1, height: 1, fill: value > 0 ? DETECTION : REMOVED, "fill-opacity": Math.abs(value) / largest,
    };
    for (const [name, setting] of Object.entries(attributes)) square.setAttribute(name, setting);
    const title = square.appendChild(document.createElementNS(SVG, "title"));
    title.textContent = value.toFixed(4);
    picture.appendChild(square);
  }));
  return picture;
}

function drawImage(detection) {
  svg.replaceChildren();
  shape("image", {href: data.source, width: data.width, height: data.height});
  if (byId("all").checked) for (const box of data.regions) outline(box, OTHER, 1);
  if (!detection) return;
  for (const other of detection.removed) outline(other.box, REMOVED, 1);
  outline(detection.before, REGION, 2, true);
  outline(detection.box, DETECTION, 3);
}

function describe(detection) {
  const detail = byId("detail");
  detail.replaceChildren();
  if (!detection) {
    add(detail, "p", "No detections.");
    return;
  }
  const {region, before, box, removed} = detection;
  add(detail, "h2", `${detection.class}, score ${detection.score.toFixed(4)}`);
  const scored = `${region + 1} of ${data.regions.length} that have a score`;
  const origin = detection.level !== undefined
    ? `Anchor ${scored}, of level ${detection.level + 1}`
    : detection.cell !== undefined
      ? `Box ${scored}, of predictor ${detection.predictor + 1} of cell ${detection.cell + 1}`
      : `Region ${region + 1} of ${data.regions.length} (1 is the best proposal)`;
  add(detail, "p", `${origin}, ${before.join(" ")}. `
    + `Final box ${box.join(" ")}, IoU with the region ${detection.moved_iou}.`);
  add(detail, "h3", "The region's score for every class");
  table(detail, ["class", "score", ""], scoreRows(detection.scores));
  if (detection.parts) {
    const sum = detection.parts.flat().reduce((total, value) => total + value, 0);
    add(detail, "h3", `What each place of the window adds: ${sum.toFixed(4)}, and the bias the rest`);
    detail.append(partsPicture(detection.parts));
  }
  add(detail, "h3", `Boxes that it suppressed in NMS: ${removed.length}`);
  if (removed.length) {
    const rows = removed.slice(0, 30).map(row => [row.region + 1, row.score.toFixed(4), row.iou, row.box.join(" ")]);
    table(detail, ["region", "score", "IoU", "box"], rows);
  }
}

// What the score hangs on, for the best detections: maps over the image.
function maps(k) {
  const detail = byId("detail"), made = (data.looked_at || [])[k];
  if (!made) return;
  add(detail, "h3", "What the score hangs on");
  for (const [name, source] of Object.entries(made)) {
    const figure = add(detail, "figure"), image = add(figure, "img");
    image.src = source;
    image.alt = name;
    add(figure, "figcaption", name);
  }
}

function draw() {
  const detection = data.detections[selected];
  [...byId("list").children].forEach((node, k) => node.setAttribute("aria-pressed", k === selected));
  drawImage(detection);
  describe(detection);
  maps(selected);
}

byId("steps").textContent = Object.entries(data.counts).map(([name, count]) => `${name}: ${count}`).join("  →  ");
data.detections.forEach((detection, k) => {
  const button = add(byId("list"), "button", `${detection.class} ${detection.score.toFixed(3)}`);
  button.addEventListener("click", () => {
    selected = k;
    draw();
  });
});
byId("all").addEventListener("change", draw);
draw();
