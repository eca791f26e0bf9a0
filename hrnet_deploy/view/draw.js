"use strict";
// The picture with boxes, poses and heatmaps: everything in the SVG is in pixels of the picture.

function make(kind, attributes, parent) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function side(name) {
  const words = name.toLowerCase().replaceAll("-", "_").split("_");
  if (words.includes("left")) return "left";
  return words.includes("right") ? "right" : "middle";
}

const unit = () => {
  const matrix = $("canvas").getScreenCTM();
  return matrix ? 1 / matrix.a : 1;
};

const upToDate = () => !state.asking && state.first !== null && state.first.keypoints.length === state.boxes.length;

function draw() {
  const has = state.boxes.length > 0;
  $("whole").disabled = !state.picture;
  $("find").disabled = !state.picture || state.finding;
  $("clear").disabled = !has;
  $("remove").disabled = state.chosen < 0;
  $("save-poses").disabled = $("save-picture").disabled = !upToDate();
  drawBoxes();
  const threshold = Number($("threshold").value);
  drawPoses($("poses"), state.first, engine(), threshold, null);
  const asked = secondQuestion();
  const other = asked && state.engines[asked.engine];
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
