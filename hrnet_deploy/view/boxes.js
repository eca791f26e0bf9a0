"use strict";
// Boxes by mouse, finger and keyboard: [x1, y1, x2, y2] in pixels of the picture.

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

// ---- boxes by keyboard

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 0.01; // of the picture's larger side; Alt makes it one pixel

function keyed(event) {
  if (event.ctrlKey || event.metaKey || !state.picture) return;
  const used = pressedKey(event);
  if (used) event.preventDefault();
}

function pressedKey(event) { // whether the key meant something
  const count = state.boxes.length;
  if (event.key === "n" || event.key === "N") return newBox();
  if (!count) return false;
  if (event.key === "." || event.key === ",") return chooseBox(state.chosen + (event.key === "." ? 1 : -1));
  if (state.chosen < 0) return false;
  if (event.key === "Delete" || event.key === "Backspace") { removeBox(state.chosen); return true; }
  if (event.key === "Escape") { state.chosen = -1; draw(); return true; }
  return event.key in STEPS && stepBox(STEPS[event.key], event.shiftKey, event.altKey);
}

function newBox() { // in the middle, of a standing person's shape
  const high = 0.6 * Math.min(state.height, 2 * state.width), wide = high / 2;
  const [x, y] = [(state.width - wide) / 2, (state.height - high) / 2];
  addBox([x, y, x + wide, y + high].map((value) => Math.round(value * 10) / 10));
  return true;
}

function addBox(box) {
  state.boxes = [...state.boxes, box];
  state.chosen = state.boxes.length - 1;
  changed();
}

function chooseBox(index) {
  const count = state.boxes.length;
  state.chosen = state.chosen < 0 && index < 0 ? count - 1 : (index + count) % count;
  draw();
  return true;
}

function stepBox([across, down], resize, fine) {
  const step = fine ? 1 : Math.max(1, Math.round(STEP * Math.max(state.width, state.height)));
  const [x1, y1, x2, y2] = state.boxes[state.chosen];
  const [dx, dy] = [across * step, down * step];
  const box = resize ? [x1, y1, x2 + dx, y2 + dy] : [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  if (!big(box)) return true;
  state.boxes = state.boxes.map((other, k) => (k === state.chosen ? box : other));
  changed();
  return true;
}
