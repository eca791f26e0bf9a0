"use strict";
// What the page knows, its questions to the server, and what its buttons do.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const CORNERS = { nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3] };
const state = {
  engines: [], picture: null, name: "", width: 0, height: 0, boxes: [], chosen: -1, first: null,
  second: null, marked: -1, asking: false, askAgain: false, finding: false, version: 0,
};

// ---- talking to the server

async function answered(path, options) {
  let answer;
  try { answer = await fetch(path, options); } catch {
    throw new Error("The server does not answer: is hrnet-deploy view still running? See its terminal.");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let message = text;
  try { message = JSON.parse(text).message; } catch { /* not ours: shown as it is */ }
  throw new Error(message || `the server answered ${answer.status}`);
}

const ask = async (path, options) => (await answered(path, options)).json();

const question = (content) => ({
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content),
});

function complain(error) { tell(error ? error.message : "", true); }

function tell(text, wrong = false) {
  $("message").hidden = !text;
  $("message").className = wrong ? "wrong" : "note";
  $("message").textContent = text;
}

async function openPicture(file) {
  try {
    const added = await ask(`api/picture?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    tell("");
    const old = $("picture").getAttribute("href");
    if (old) URL.revokeObjectURL(old);
    Object.assign(state, added, { name: file.name, boxes: [], chosen: -1, first: null, second: null });
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
  $("busy").hidden = false;
  do {
    state.askAgain = false;
    await askPoses();
  } while (state.askAgain);
  state.asking = false;
  $("busy").hidden = true;
  draw();
}

async function askPoses() {
  const { version, boxes, picture } = state;
  if (!picture || !boxes.length) {
    Object.assign(state, { first: null, second: null });
    draw();
    return;
  }
  const heatmap = $("heatmap").value === "" ? null : Number($("heatmap").value);
  const asked = { picture, boxes, heatmap, engine: engineIndex(), flip: flipOf(engine()) };
  const other = secondQuestion();
  try {
    const first = await ask("api/poses", question(asked));
    const second = other && await ask("api/poses", question({ picture, boxes, ...other }));
    if (version !== state.version) return;
    Object.assign(state, { first, second });
    if ($("message").className === "wrong") tell("");
  } catch (error) {
    if (version === state.version) Object.assign(state, { first: null, second: null });
    complain(error);
  }
  draw();
}

function changed() {
  refresh();
  draw(); // after the question has begun: until it is answered nothing can be saved
}

function changedEngine() { // what is on its way is of another engine
  state.version += 1;
  Object.assign(state, { first: null, second: null });
  changed();
}

// ---- finding people, and saving

async function findPeople() {
  const { picture, version } = state;
  state.finding = true;
  draw();
  try {
    const found = await ask("api/people", question({ picture }));
    if (picture !== state.picture || version !== state.version) return;
    Object.assign(state, { boxes: found.boxes, chosen: -1 });
    changed();
    const kept = found.boxes.length;
    if (!found.found) tell("The detector found nobody here. Draw a box around each person.");
    else tell(kept < found.found ? `The detector found ${found.found} persons; the ${kept} surest are shown.` : "");
  } catch (error) { complain(error); } finally { state.finding = false; draw(); }
}

function save(content, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `${state.name.replace(/\.[^.]*$/, "")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function savePoses() { // the record that predict writes, with the engine's name
  const { first } = state;
  const persons = state.boxes.map((box, person) => ({
    box_xyxy: box,
    score: first.instances[person],
    keypoints: first.keypoints[person].map(([x, y], k) => [x, y, first.scores[person][k]]),
  }));
  const record = {
    image: state.name, width: state.width, height: state.height, engine: engine().name,
    flip_test: $("flip").checked, keypoint_set: engine().keypoint_set, keypoint_names: engine().names, persons,
  };
  save(new Blob([`${JSON.stringify(record, null, 1)}\n`], { type: "application/json" }), "poses.json");
}

async function savePicture() {
  const asked = {
    picture: state.picture, boxes: state.boxes, engine: engineIndex(), flip: flipOf(engine()),
    threshold: Number($("threshold").value), with_boxes: $("show-boxes").checked,
  };
  try { save(await (await answered("api/drawing", question(asked))).blob(), "poses.png"); } catch (error) { complain(error); }
}

// ---- wiring

async function begin() {
  const { engines, detector } = await ask("api/bench");
  state.engines = engines;
  $("find").hidden = detector === null;
  $("find").title = detector === null ? "" : `with ${detector}`;
  $("engine").replaceChildren(...engines.map((facts, k) => option(String(k), engineLabel(facts))));
  showEngine();
  draw();
}

$("open").addEventListener("change", (event) => {
  if (event.target.files.length) openPicture(event.target.files[0]);
  event.target.value = "";
});
$("find").addEventListener("click", findPeople);
$("whole").addEventListener("click", () => addBox([0, 0, state.width, state.height]));
$("remove").addEventListener("click", () => removeBox(state.chosen));
$("clear").addEventListener("click", () => { Object.assign(state, { boxes: [], chosen: -1 }); changed(); });
$("save-poses").addEventListener("click", savePoses);
$("save-picture").addEventListener("click", savePicture);
$("engine").addEventListener("change", () => { showEngine(); changedEngine(); });
$("flip").addEventListener("change", () => { showEngine(); changedEngine(); });
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
  if (!["INPUT", "SELECT", "BUTTON"].includes(event.target.tagName)) keyed(event);
});
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("stage").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => $("stage").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) openPicture(event.dataTransfer.files[0]);
});
begin().catch(complain);
