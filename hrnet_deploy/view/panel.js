"use strict";
// The panel: engines, times, and the keypoints of one person.

const engineIndex = () => Number($("engine").value);
const engine = () => state.engines[engineIndex()];

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

const TURNED = "turned"; // the same engine with its flip-test the other way round

function engineLabel(facts) {
  return facts.flip_test ? `${facts.name} (flip-test inside)` : facts.name;
}

function showEngine() {
  const facts = engine();
  if (!facts.flip_choice) $("flip").checked = facts.flip_test;
  $("flip").disabled = !facts.flip_choice;
  $("flip-note").textContent = facts.flip_choice ? "" :
    facts.flip_test ? "always: it is inside this engine" : "not possible with this engine";
  $("facts").textContent =
    `${facts.architecture}, ${facts.input}, ${facts.precision}, ${facts.backend} on ${facts.device}`;
  const before = $("heatmap").value;
  const choices = facts.heatmaps ? [option("", "off"), option("-1", "all keypoints")] : [option("", "none in this engine")];
  if (facts.heatmaps) facts.names.forEach((name, k) => choices.push(option(String(k), spoken(name))));
  $("heatmap").replaceChildren(...choices);
  $("heatmap").value = choices.some((choice) => choice.value === before) ? before : "";
  showOthers(facts);
}

function showOthers(facts) {
  const before = $("other").value;
  const rest = state.engines.map((item, k) => option(String(k), engineLabel(item))).filter((_, k) => k !== engineIndex());
  if (facts.flip_choice) rest.unshift(option(TURNED, `itself ${$("flip").checked ? "without" : "with"} flip-test`));
  $("other").replaceChildren(option("", rest.length ? "nothing" : "nothing (give --engine twice)"), ...rest);
  $("other").value = rest.some((choice) => choice.value === before) ? before : "";
}

function flipOf(facts) { // what to ask for: null leaves it to the engine
  return facts.flip_choice ? $("flip").checked : null;
}

function secondQuestion() { // engine and flip-test of the comparison; null without one
  const value = $("other").value;
  if (value === "") return null;
  if (value === TURNED) return { engine: engineIndex(), flip: !$("flip").checked };
  return { engine: Number(value), flip: flipOf(state.engines[Number(value)]) };
}

const spoken = (name) => name.replaceAll("_", " ");

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
  if (other) parts.push(["two", $("other").selectedOptions[0].textContent]);
  $("legend").replaceChildren(...parts.flatMap(([look, text]) => {
    const dot = document.createElement("span");
    dot.className = `dot ${look}`;
    return [dot, text];
  }));
}

function showTimes() {
  $("times").replaceChildren();
  $("no-times").hidden = state.first !== null;
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
  const waiting = state.boxes.length && state.asking ? "Working …" : "Draw a box to see its keypoints.";
  $("summary").textContent = ready ? `Score ${poses.instances[person].toFixed(2)}` : waiting;
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
