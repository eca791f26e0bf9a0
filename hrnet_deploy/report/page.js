"use strict";
(() => {
  const data = JSON.parse(document.getElementById("persons").textContent);
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  const STEP = 24;
  const SCORE_THRESHOLD = 0.2;
  const SVG = "http://www.w3.org/2000/svg";
  let matching = [];
  let shown = 0;

  const options = {
    engine: data.engines,
    subset: data.subsets,
    size: ["small", "medium", "large"],
    kind: data.kinds.slice(1).concat("good"),
  };

  function element(name, attributes, text) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function shape(name, attributes, title) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (title) {
      const tip = document.createElementNS(SVG, "title");
      tip.textContent = title;
      made.append(tip);
    }
    return made;
  }

  function side(name) {
    const words = name.toLowerCase().split(/[-_ ]/);
    if (words.includes("left")) return "left";
    return words.includes("right") ? "right" : "middle";
  }

  function variable(kind) {
    return `var(--${kind.replace(" ", "-")})`;
  }

  /* One skeleton; points are [x, y, visibility or score], null where there is none. */
  function drawSkeleton(svg, points, names, skeleton, unit, looks) {
    const sides = names.map(side);
    for (const rim of [true, false]) {
      for (const [a, b] of skeleton) {
        if (!looks(a).there || !looks(b).there) continue;
        const colour = sides[a] === sides[b] ? sides[a] : "middle";
        svg.append(shape("line", {
          x1: points[a][0], y1: points[a][1], x2: points[b][0], y2: points[b][1],
          stroke: rim ? "#1e1e1e" : variable(colour),
          "stroke-width": unit * (rim ? 2.4 : 1.4), "stroke-linecap": "round",
          opacity: looks(a).faint || looks(b).faint ? 0.35 : 1,
        }));
      }
    }
    points.forEach((point, k) => {
      const look = looks(k);
      if (!look.there) return;
      svg.append(shape("circle", {
        cx: point[0], cy: point[1], r: unit * (look.ring ? 2.5 : 1.7),
        fill: variable(sides[k]), stroke: look.ring || "#1e1e1e",
        "stroke-width": unit * (look.ring ? 1.6 : 0.6),
        opacity: look.faint ? 0.35 : 1, class: "keypoint",
      }, look.title));
    });
  }

  function frame(person) {
    const crop = person.crop === null ? null : data.crops[person.crop];
    const view = crop ? crop.xywh : grown(person.box);
    const svg = shape("svg", { viewBox: view.join(" ") });
    if (crop) {
      const [x, y, width, height] = view;
      svg.append(shape("image", { href: crop.src, x, y, width, height, preserveAspectRatio: "none" }));
    }
    const [x, y, width, height] = person.box;
    const unit = Math.max(view[2], view[3]) / 150;
    svg.append(shape("rect", {
      x, y, width, height, fill: "none", stroke: "#ffffff", "stroke-opacity": 0.55,
      "stroke-width": unit * 0.6, "stroke-dasharray": `${unit * 3} ${unit * 2}`,
    }));
    return [svg, unit];
  }

  function grown([x, y, width, height]) {
    const margin = 0.35 * Math.max(width, height, 24);
    return [x - margin, y - margin, width + 2 * margin, height + 2 * margin];
  }

  function truthPanel(person, set) {
    const [svg, unit] = frame(person);
    drawSkeleton(svg, person.truth, set.names, set.skeleton, unit, (k) => ({
      there: person.truth[k][2] > 0,
      title: `${set.names[k]}: labelled${person.truth[k][2] === 1 ? ", hidden" : ""}`,
    }));
    return panel("labelled", svg);
  }

  function foundPanel(person, set) {
    const [svg, unit] = frame(person);
    if (person.found) {
      drawSkeleton(svg, person.found, set.names, set.skeleton, unit, (k) => {
        const labelled = person.truth[k][2] > 0;
        const kind = person.kinds[k];
        const score = person.found[k][2];
        const wrong = kind > 0 && data.kinds[kind] !== "not found";
        return {
          there: labelled || score >= SCORE_THRESHOLD,
          faint: !labelled,
          ring: wrong ? variable(data.kinds[kind]) : null,
          title: `${set.names[k]}: ${labelled ? data.kinds[kind] : "not labelled"}, score ${score}`,
        };
      });
    }
    return panel(person.found ? "predicted" : "no pose", svg);
  }

  function panel(caption, svg) {
    const made = element("figure");
    made.append(svg, element("figcaption", {}, caption));
    return made;
  }

  function tag(kind) {
    const dark = kind === "jitter" || kind === "good" ? " dark" : "";
    return element("span", { class: `tag${dark}`, style: `--c:${variable(kind)}` }, kind);
  }

  function card(person) {
    const set = data.sets[person.set];
    const made = element("article", {
      class: "card", "data-engine": set.engine, "data-subset": set.subset,
      "data-size": person.size, "data-kinds": person.errors.join(","), "data-oks": person.oks,
    });
    const pair = element("div", { class: "pair" });
    pair.append(truthPanel(person, set), foundPanel(person, set));
    const about = element("div", { class: "about" });
    const first = element("div");
    first.append(element("b", {}, `OKS ${person.oks.toFixed(3)}`), ` · ${set.engine} · ${set.subset} · ${person.size}`);
    const place = `${person.file} · image ${person.image} · box ${person.box.map(Math.round).join(", ")}`;
    about.append(first, element("div", { class: "where", title: place }, place));
    person.errors.forEach((kind) => about.append(tag(kind)));
    made.append(pair, about);
    made.addEventListener("click", () => made.classList.toggle("large"));
    return made;
  }

  function fits(person, wanted) {
    const set = data.sets[person.set];
    return (!wanted.engine || set.engine === wanted.engine)
      && (!wanted.subset || set.subset === wanted.subset)
      && (!wanted.size || person.size === wanted.size)
      && (!wanted.kind || person.errors.includes(wanted.kind));
  }

  function wanted() {
    return Object.fromEntries(Object.keys(options).map((name) => [name, form.elements[name].value]));
  }

  function showMore() {
    const next = matching.slice(shown, shown + STEP);
    cards.append(...next.map(card));
    shown += next.length;
    more.hidden = shown >= matching.length;
    count.textContent = `${shown} of ${matching.length} shown; this page holds the worst ${data.persons.length} of ${data.all} poses`;
  }

  function filter() {
    const choice = wanted();
    matching = data.persons.filter((person) => fits(person, choice));
    shown = 0;
    cards.replaceChildren();
    showMore();
  }

  /* #engine=w32.onnx&kind=swap: a filter that can be sent to somebody. */
  function readHash() {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const [name, values] of Object.entries(options)) {
      const value = asked.get(name);
      form.elements[name].value = values.includes(value) ? value : "";
    }
  }

  /* Other hashes are the links of the page itself. */
  function hashIsFilter() {
    return location.hash.includes("=");
  }

  function writeHash() {
    const chosen = Object.entries(wanted()).filter(([, value]) => value);
    location.replace(`#${chosen.length ? new URLSearchParams(chosen) : "failures"}`);
  }

  for (const [name, values] of Object.entries(options)) {
    const select = form.elements[name];
    select.append(element("option", { value: "" }, "any"));
    values.forEach((value) => select.append(element("option", { value }, value)));
  }
  form.addEventListener("change", () => { filter(); writeHash(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  window.addEventListener("hashchange", () => {
    if (!hashIsFilter()) return;
    readHash();
    filter();
  });
  /* One engine and subset to begin with: the same person otherwise stands there many times. */
  form.elements.engine.value = data.engines[0];
  form.elements.subset.value = data.subsets[0];
  if (hashIsFilter()) readHash();
  filter();
  if (hashIsFilter()) document.getElementById("failures").scrollIntoView();
})();
