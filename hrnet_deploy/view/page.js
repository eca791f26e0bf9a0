"use strict";
// Boxes are [x1, y1, x2, y2] in pixels of the picture; everything in the SVG is in those pixels.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const CORNERS = { nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3] };
const state = {
  engines: [], picture: null, width: 0, height: 0, boxes: [], chosen: -1,
  first: null, second: null, marked: -1, asking: false, askAgain: false, version: 0,
};

// ---- talking to the server

async function ask(path, options) {
  const answer = await fetch(path, options);
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { value = { message: text }; }
  if (!answer.ok) throw new Error(value.message || `the server answered ${answer.status}`);
  return value;
}

function complain(error) {
  $("message").hidden = !error;
  $("message").textContent = error ? error.message : "";
}

async function openPicture(file) {
  try {
    const added = await ask(`api/picture?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    complain(null);
    const old = $("picture").getAttribute("href");
    if (old) URL.revokeObjectURL(old);
    Object.assign(state, added, { boxes: [], chosen: -1, first: null, second: null });
    state.version += 1;
    $("picture").setAttribute("href", URL.createObjectURL(file));
    for (const id of ["picture", "heat"]) {
      $(id).setAttribute("width", state.width);
      $(id).setAttribute("height", state.height);
      $(id).setAttribute("preserveAspectRatio", "none");
    }
    $("canvas").setAttribute("viewBox", `0 0 ${state.width} ${state.height}`);
    $("file").textContent = `${file.name}, ${state.width} x ${state.height}`;
    $("canvas").removeAttribute("hidden");
    $("hint").hidden = false;
    $("empty").hidden = true;
    draw();
  } catch (error) { complain(error); }
}

async function refresh() {
  // One question at a time; what changed meanwhile is asked once more at the end.
  if (state.asking) { state.askAgain = true; return; }
  state.asking = true;
  do {
    state.askAgain = false;
    await askPoses();
  } while (state.askAgain);
  state.asking = false;
}

async function askPoses() {
  const { version, boxes, picture } = state;
  if (!picture || !boxes.length) {
    Object.assign(state, { first: null, second: null });
    draw();
    return;
  }
  const heatmap = $("heatmap").value === "" ? null : Number($("heatmap").value);
  const question = (engine, heat) => ask("api/poses", {
    method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify({ picture, engine, boxes, heatmap: heat }),
  });
  try {
    const first = await question(engineIndex(), heatmap);
    const second = $("other").value === "" ? null : await question(Number($("other").value), null);
    if (version !== state.version) return;
    Object.assign(state, { first, second });
    complain(null);
  } catch (error) { complain(error); }
  draw();
}

function changed() {
  state.askAgain = state.asking;
  draw();
  refresh();
}

function changedEngine() { // what is on its way is of another engine
  state.version += 1;
  Object.assign(state, { first: null, second: null });
  changed();
}

// ---- engines

const engineIndex = () => Number($("engine").value);
const engine = () => state.engines[engineIndex()];

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

function engineLabel(facts) {
  return `${facts.name} (${facts.flip_test ? "with" : "no"} flip-test)`;
}

function showEngine() {
  const facts = engine();
  $("flip").checked = facts.flip_test;
  $("flip").disabled = facts.partner === null;
  $("flip-note").textContent = facts.partner !== null ? "" :
    `only ${facts.flip_test ? "with" : "without"} it here; give the other engine too`;
  $("facts").textContent =
    `${facts.architecture}, ${facts.input}, ${facts.precision}, ${facts.backend} on ${facts.device}`;
  const before = $("heatmap").value;
  const choices = facts.heatmaps ? [option("", "off"), option("-1", "all keypoints")] : [option("", "none in this engine")];
  if (facts.heatmaps) facts.names.forEach((name, k) => choices.push(option(String(k), spoken(name))));
  $("heatmap").replaceChildren(...choices);
  $("heatmap").value = choices.some((choice) => choice.value === before) ? before : "";
  const same = $("other").value;
  const rest = state.engines.map((item, k) => option(String(k), engineLabel(item))).filter((_, k) => k !== engineIndex());
  $("other").replaceChildren(option("", rest.length ? "nothing" : "nothing (give --engine twice)"), ...rest);
  $("other").value = same !== String(engineIndex()) && rest.some((choice) => choice.value === same) ? same : "";
}

const spoken = (name) => name.replaceAll("_", " ");
function side(name) {
  const words = name.toLowerCase().replaceAll("-", "_").split("_");
  if (words.includes("left")) return "left";
  return words.includes("right") ? "right" : "middle";
}

// ---- drawing

function make(kind, attributes, parent) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

const unit = () => {
  const matrix = $("canvas").getScreenCTM();
  return matrix ? 1 / matrix.a : 1;
};

function draw() {
  const has = state.boxes.length > 0;
  $("whole").disabled = !state.picture;
  $("clear").disabled = !has;
  $("remove").disabled = state.chosen < 0;
  drawBoxes();
  const threshold = Number($("threshold").value);
  drawPoses($("poses"), state.first, engine(), threshold, null);
  const other = $("other").value === "" ? null : state.engines[Number($("other").value)];
  drawPoses($("other-poses"), other && state.second, other, threshold, "var(--other)");
  const heat = has && state.first && state.first.heatmap;
  if (heat) $("heat").setAttribute("href", heat);
  else $("heat").removeAttribute("href");
  showLegend(other);
  showTimes();
  showKeypoints(threshold, other);
}

function drawBoxes() {
  $("boxes").replaceChildren();
  $("handles").replaceChildren();
  state.boxes.forEach(([x1, y1, x2, y2], index) => {
    const look = index === state.chosen ? "box chosen" : $("show-boxes").checked ? "box" : "box quiet";
    make("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), class: look, "data-box": index }, $("boxes"));
  });
  const box = state.boxes[state.chosen];
  if (!box) return;
  const size = 9 * unit();
  for (const [corner, [across, down]] of Object.entries(CORNERS)) {
    make("rect", { x: box[across] - size / 2, y: box[down] - size / 2, width: size, height: size, class: `handle ${corner}`, "data-corner": corner }, $("handles"));
  }
}

function drawPoses(group, poses, facts, threshold, colour) {
  group.replaceChildren();
  group.setAttribute("class", colour ? "pose second" : "pose");
  if (!poses) return;
  const radius = (colour ? 3 : 4) * unit();
  poses.keypoints.forEach((points, person) => {
    const seen = poses.scores[person].map((score) => score >= threshold);
    const tint = (k) => colour || `var(--${side(facts.names[k])})`;
    for (const look of ["limb rim", "limb"]) {
      for (const [a, b] of facts.skeleton) {
        if (!seen[a] || !seen[b]) continue;
        const ends = { x1: points[a][0], y1: points[a][1], x2: points[b][0], y2: points[b][1] };
        const line = make("line", { ...ends, class: look }, group);
        if (look === "limb") line.style.stroke = tint(a) === tint(b) ? tint(a) : "var(--middle)";
      }
    }
    points.forEach(([x, y], k) => {
      if (!seen[k]) return;
      make("circle", { cx: x, cy: y, r: radius, class: "joint" }, group).style.fill = tint(k);
      if (!colour && person === shownPerson() && k === state.marked) make("circle", { cx: x, cy: y, r: 3 * radius, class: "mark" }, group);
    });
  });
}

const shownPerson = () => (state.chosen >= 0 ? state.chosen : state.boxes.length - 1);

// ---- the panel

function row(kind, cells, parent) {
  const made = document.createElement("tr");
  for (const content of cells) {
    const cell = document.createElement(kind);
    cell.append(content);
    made.append(cell);
  }
  parent.append(made);
  return made;
}

function showLegend(other) {
  const parts = [["left", "left"], ["right", "right"], ["middle", "middle"]];
  if (other) parts.push(["two", other.name]);
  $("legend").replaceChildren(...parts.flatMap(([look, text]) => {
    const dot = document.createElement("span");
    dot.className = `dot ${look}`;
    return [dot, text];
  }));
}

function showTimes() {
  $("times").replaceChildren();
  if (!state.first) return;
  const runs = [state.first, state.second].filter(Boolean).map((poses) => poses.times_ms);
  const persons = state.first.keypoints.length;
  const ms = (value) => value.toFixed(1);
  row("th", ["", ...runs.map((_, k) => (k ? "second" : "first"))], $("times"));
  row("td", ["decode (once)", ...runs.map((times) => ms(times.decode))], $("times"));
  row("td", [`crops, ${persons}`, ...runs.map((times) => ms(times.crops))], $("times"));
  row("td", [`engine, ${persons}`, ...runs.map((times) => ms(times.engine))], $("times"));
  row("td", ["engine per person", ...runs.map((times) => ms(times.engine / persons))], $("times"));
}

function showKeypoints(threshold, other) {
  const person = shownPerson();
  $("keypoints").replaceChildren();
  const poses = state.first;
  const ready = poses && person >= 0 && person < poses.keypoints.length;
  $("person").textContent = ready ? `person ${person + 1} of ${poses.keypoints.length}` : "";
  $("summary").textContent = ready ? `Score ${poses.instances[person].toFixed(2)}` : "Draw a box to see its keypoints.";
  if (!ready) return;
  const second = other && state.second && state.second.keypoints[person] ? state.second : null;
  const head = document.createElement("thead");
  const body = document.createElement("tbody");
  row("th", second ? ["", "score", "second", "apart, px"] : ["", "", "score"], head);
  let total = 0, counted = 0;
  engine().names.forEach((name, k) => {
    const score = poses.scores[person][k];
    const cells = [spoken(name)];
    if (second) {
      const j = other.names.indexOf(name);
      const apart = j < 0 ? null : Math.hypot(...[0, 1].map((axis) => poses.keypoints[person][k][axis] - second.keypoints[person][j][axis]));
      if (apart !== null && score >= threshold) { total += apart; counted += 1; }
      cells.push(score.toFixed(2), j < 0 ? "–" : second.scores[person][j].toFixed(2), apart === null ? "–" : apart.toFixed(1));
    } else {
      const meter = document.createElement("meter");
      meter.value = Math.max(0, Math.min(1, score));
      cells.push(meter, score.toFixed(2));
    }
    const made = row("td", cells, body);
    if (score < threshold) made.className = "low";
    made.addEventListener("pointerenter", () => { state.marked = k; redrawMark(); });
    made.addEventListener("pointerleave", () => { state.marked = -1; redrawMark(); });
  });
  if (second && counted) $("summary").textContent += `; second ${second.instances[person].toFixed(2)}; ${(total / counted).toFixed(1)} px apart on average`;
  $("keypoints").append(head, body);
}

function redrawMark() { // only the poses: a new table would take the row from under the pointer
  drawPoses($("poses"), state.first, engine(), Number($("threshold").value), null);
}

// ---- boxes by mouse

let drag = null;

function place(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform($("canvas").getScreenCTM().inverse());
  return [Math.round(point.x * 10) / 10, Math.round(point.y * 10) / 10];
}

const within = (value, most) => Math.min(Math.max(value, 0), most);

function pressed(event) {
  if (!state.picture || event.button !== 0) return;
  const at = place(event);
  const { corner, box } = event.target.dataset;
  if (corner) {
    drag = { kind: "corner", corner, index: state.chosen };
  } else if (box !== undefined && !event.shiftKey) {
    state.chosen = Number(box);
    drag = { kind: "move", index: state.chosen, at, start: [...state.boxes[state.chosen]] };
  } else {
    drag = { kind: "new", at };
  }
  $("canvas").setPointerCapture(event.pointerId);
  draw();
}

function moved(event) {
  if (!drag) return;
  const [x, y] = place(event).map((value, axis) => within(value, axis ? state.height : state.width));
  if (drag.kind === "new") {
    if (Math.hypot(x - drag.at[0], y - drag.at[1]) < 4 * unit()) return;
    const [a, b] = [within(drag.at[0], state.width), within(drag.at[1], state.height)];
    drag = { kind: "corner", corner: "se", index: state.boxes.length, fresh: true };
    state.boxes = [...state.boxes, [a, b, a, b]];
    state.chosen = drag.index;
    drag.anchor = [a, b];
  }
  const box = [...state.boxes[drag.index]];
  if (drag.kind === "corner") {
    const [across, down] = CORNERS[drag.corner];
    drag.anchor ||= [box[2 - across], box[4 - down]];
    box.splice(0, 4, Math.min(x, drag.anchor[0]), Math.min(y, drag.anchor[1]), Math.max(x, drag.anchor[0]), Math.max(y, drag.anchor[1]));
  } else {
    const [dx, dy] = [x - drag.at[0], y - drag.at[1]];
    const shift = [dx, dy, dx, dy];
    box.splice(0, 4, ...drag.start.map((value, k) => Math.round((value + shift[k]) * 10) / 10));
  }
  drag.changed = true;
  state.boxes = state.boxes.map((other, k) => (k === drag.index ? box : other));
  if (big(box)) changed(); else draw();
}

const big = (box) => box[2] - box[0] >= 2 && box[3] - box[1] >= 2;

function released() {
  if (!drag) return;
  const ended = drag;
  drag = null;
  if (ended.kind === "new") { state.chosen = -1; draw(); return; }
  if (!big(state.boxes[ended.index])) removeBox(ended.index);
  else if (ended.changed) changed();
}

function removeBox(index) {
  state.boxes = state.boxes.filter((_, k) => k !== index);
  state.chosen = -1;
  changed();
}

// ---- wiring

async function begin() {
  state.engines = await ask("api/engines");
  $("engine").replaceChildren(...state.engines.map((facts, k) => option(String(k), engineLabel(facts))));
  showEngine();
  draw();
}

$("open").addEventListener("change", (event) => {
  if (event.target.files.length) openPicture(event.target.files[0]);
  event.target.value = "";
});
$("whole").addEventListener("click", () => {
  state.boxes = [...state.boxes, [0, 0, state.width, state.height]];
  state.chosen = state.boxes.length - 1;
  changed();
});
$("remove").addEventListener("click", () => removeBox(state.chosen));
$("clear").addEventListener("click", () => { Object.assign(state, { boxes: [], chosen: -1 }); changed(); });
$("engine").addEventListener("change", () => { showEngine(); changedEngine(); });
$("flip").addEventListener("change", () => { $("engine").value = String(engine().partner); showEngine(); changedEngine(); });
$("other").addEventListener("change", changedEngine);
$("heatmap").addEventListener("change", changed);
$("show-boxes").addEventListener("change", draw);
$("threshold").addEventListener("input", () => { $("threshold-value").textContent = Number($("threshold").value).toFixed(2); draw(); });
$("canvas").addEventListener("pointerdown", pressed);
$("canvas").addEventListener("pointermove", moved);
$("canvas").addEventListener("pointerup", released);
$("canvas").addEventListener("pointercancel", released);
window.addEventListener("resize", draw);
document.addEventListener("keydown", (event) => {
  if (["INPUT", "SELECT"].includes(event.target.tagName) || state.chosen < 0) return;
  if (event.key === "Delete" || event.key === "Backspace") { event.preventDefault(); removeBox(state.chosen); }
  if (event.key === "Escape") { state.chosen = -1; draw(); }
});
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => $("stage").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) openPicture(event.dataTransfer.files[0]);
});
begin().catch(complain);
