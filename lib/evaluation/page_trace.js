"use strict";
const data = JSON.parse(document.getElementById("data").textContent), NS = "http://www.w3.org/2000/svg";
const byId = id => document.getElementById(id);
function add(parent, tag, text) { const node = document.createElement(tag); if (text !== undefined) node.textContent = text; parent.appendChild(node); return node; }
const svg = byId("picture").appendChild(document.createElementNS(NS, "svg"));
svg.setAttribute("viewBox", `0 0 ${data.width} ${data.height}`);
const unit = Math.max(data.width, data.height) / 640;
function shape(tag, attributes) { const node = document.createElementNS(NS, tag); for (const k in attributes) node.setAttribute(k, attributes[k]); svg.appendChild(node); return node; }
function box(b, paint, width, dash) { const r = shape("rect", {x: b[0], y: b[1], width: b[2] - b[0], height: b[3] - b[1], fill: "none", stroke: paint, "stroke-width": width * unit}); if (dash) r.setAttribute("stroke-dasharray", `${6 * unit} ${4 * unit}`); }
byId("steps").textContent = Object.entries(data.counts).map(([k, v]) => `${k}: ${v}`).join("  →  ");
let chosen = 0;
function table(parent, head, rows) {
  const t = add(parent, "table"), h = add(add(t, "thead"), "tr"), body = add(t, "tbody");
  head.forEach(name => add(h, "th", name));
  for (const row of rows) { const line = add(body, "tr"); row.forEach(cell => cell instanceof Node ? add(line, "td").append(cell) : add(line, "td", cell)); }
}
function draw() {
  svg.replaceChildren();
  shape("image", {href: data.source, width: data.width, height: data.height});
  if (byId("all").checked) for (const b of data.regions) box(b, "#ffffff90", 1);
  const d = data.detections[chosen], detail = byId("detail");
  [...byId("list").children].forEach((node, k) => node.setAttribute("aria-pressed", k === chosen));
  detail.replaceChildren();
  if (!d) { add(detail, "p", "No detections."); return; }
  for (const r of d.removed) box(r.box, "#d62728", 1);
  box(d.before, "#0033cc", 2, true); box(d.box, "#00a040", 3);
  add(detail, "h2", `${d.class}, score ${d.score.toFixed(4)}`);
  add(detail, "p", `Region ${d.region + 1} of ${data.regions.length} (the best proposal is 1), ${d.before.join(" ")}. Moved to ${d.box.join(" ")}: IoU of the two ${d.moved_iou}.`);
  add(detail, "h3", "The region's score for every class");
  const known = d.scores.filter(s => s !== null), low = Math.min(...known), high = Math.max(...known);
  table(detail, ["class", "score", ""], data.classes.map((name, k) => [k, name]).sort((a, b) => (d.scores[b[0]] ?? -1e9) - (d.scores[a[0]] ?? -1e9)).map(([k, name]) => {
    const bar = document.createElement("span"); bar.className = "bar";
    bar.style.width = (d.scores[k] === null ? 0 : 4 + 150 * (d.scores[k] - low) / (high - low || 1)) + "px";
    return [name, d.scores[k] === null ? "none" : d.scores[k].toFixed(4), bar];
  }));
  add(detail, "h3", `NMS removed ${d.removed.length} boxes for this one`);
  if (d.removed.length) table(detail, ["region", "score", "IoU", "box"], d.removed.slice(0, 30).map(r => [r.region + 1, r.score.toFixed(4), r.iou, r.box.join(" ")]));
}
data.detections.forEach((d, k) => { const b = add(byId("list"), "button", `${d.class} ${d.score.toFixed(3)}`); b.addEventListener("click", () => { chosen = k; draw(); }); });
byId("all").addEventListener("change", draw);
draw();
