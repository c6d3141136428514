"use strict";
// What is shown (`view`), as the address says it after #, and the controls that change it.

const one = id => document.getElementById(id);
const methodNumber = name => E.methods.findIndex(method => method.name === name);
let view = null, faces = [], lacking = []; // what the address names and this folder lacks

const fresh = () => ({
  face: -1, shown: new Set([0]), truth: true, sort: "error", a: 0, b: Math.min(1, E.methods.length - 1), group: "",
  ascending: false, subset: "", yaw: [null, null], side: [null, null], find: "",
});

// ---- the address: #face=…&methods=a,b&sort=difference:a:b&group=jaw&order=lowest&subset=…&yaw=30-90&side=0-64&find=…

function toHash() {
  const parts = [], names = m => E.methods[m].name, range = pair => pair.map(value => value ?? "").join("-");
  const add = (key, value, usual) => value !== usual &&
    parts.push(`${key}=${encodeURIComponent(value).replace(/%2F/g, "/").replace(/%2C/g, ",").replace(/%3A/g, ":")}`);
  if (view.face >= 0) add("face", E.faces.id[view.face]);
  add("methods", [...view.shown].sort((m, n) => m - n).map(names).join(","));
  const of = {error: [view.a], difference: [view.a, view.b]}[view.sort] || [];
  add("sort", [view.sort, ...of.map(names)].join(":"));
  add("group", view.group, "");
  add("order", view.ascending ? "lowest" : "highest", "highest");
  add("subset", view.subset, "");
  add("yaw", range(view.yaw), "-");
  add("side", range(view.side), "-");
  add("find", view.find, "");
  add("truth", view.truth ? "on" : "off", "on");
  return `#${parts.join("&")}`;
}

// Names that this folder does not have are left out, and said.
function fromHash(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, "").replace(/\+/g, "%2B")), made = fresh(), unknown = [];
  const method = name => {
    const m = methodNumber(name);
    if (m < 0) unknown.push(`method ${name}`);
    return m;
  };
  const range = text => text.split("-", 2).map(part => (part && Number.isFinite(Number(part)) ? Number(part) : null));
  const [sort, ...of] = (asked.get("sort") || "error").split(":"), [a, b] = of.map(method);
  if (sorts().some(([name]) => name === sort)) made.sort = sort;
  if (a >= 0) made.a = a;
  if (b >= 0) made.b = b;
  made.shown = new Set(made.sort === "difference" ? [made.a, made.b] : [made.a]);
  if (asked.has("methods")) made.shown = new Set(asked.get("methods").split(",").filter(Boolean).map(method).filter(m => m >= 0));
  if (asked.get("group") in E.groups) made.group = asked.get("group");
  if (E.subsets.includes(asked.get("subset"))) made.subset = asked.get("subset");
  made.ascending = asked.get("order") === "lowest";
  made.yaw = range(asked.get("yaw") || "-").concat(null).slice(0, 2);
  made.side = range(asked.get("side") || "-").concat(null).slice(0, 2);
  made.find = asked.get("find") || "";
  made.truth = asked.get("truth") !== "off";
  if (asked.get("face")) {
    made.face = E.faces.id.indexOf(asked.get("face"));
    if (made.face < 0) unknown.push(`face ${asked.get("face")}`);
  }
  return [made, unknown];
}

// ---- showing

function sorts() {
  const known = [["error", "error"]];
  if (E.methods.length > 1) known.push(["difference", "difference of errors"]);
  if (E.suspects) known.push(["suspect", "suspect annotation"]);
  if (E.faces.yaw) known.push(["yaw", "yaw"]);
  return known.concat([["side", "size of the face box"], ["dataset", "the dataset's order"]]);
}

// Show `view`. again: the chosen faces or their order may have changed.
function show(again = true) {
  if (again) {
    faces = chosenFaces(view);
    grid.show(faces, view);
  } else grid.repaint();
  fillControls();
  const place = faces.indexOf(view.face);
  if (view.face >= 0) {
    large.open(view.face, view, place < 0 ? "not in the filter" : `${place + 1} of ${faces.length}`);
    for (const step of [1, -1]) if (E.pictures && faces[place + step] !== undefined) new Image().src = pictureOf(faces[place + step]);
  } else large.close();
  one("link").href = toHash();
  if (location.hash !== toHash()) history.replaceState(null, "", toHash());
}

function change(what, again = true) {
  lacking = [];
  Object.assign(view, what);
  if (again) grid.box.scrollTop = 0;
  show(again);
}

// A sort is shown with the methods that it is about.
function sortBy(what) {
  Object.assign(view, what);
  change({shown: new Set(view.sort === "difference" ? [view.a, view.b] : [view.a])});
}

function toggle(m) {
  const shown = new Set(view.shown);
  if (!shown.delete(m)) shown.add(m);
  change({shown}, false);
}

function step(by) {
  const place = faces.indexOf(view.face), next = faces[place < 0 ? 0 : place + by];
  if (next === undefined) return;
  view.face = next;
  grid.reveal(next);
  show(false);
}

function openFace(face) {
  history.pushState(null, "", location.href); // so that Back returns to the grid
  change({face}, false);
}

// ---- controls

function option(select, value, text) {
  const element = document.createElement("option");
  element.value = value;
  element.textContent = text;
  select.append(element);
}

// A checkbox with the method's colour and name.
function methodSwitch(m, current) {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox";
  box.checked = current.shown.has(m);
  box.addEventListener("change", () => toggle(m));
  label.className = "method";
  label.append(box, swatch(m), E.methods[m].name);
  return label;
}

function swatch(m) {
  const dot = document.createElement("i");
  dot.className = "swatch";
  dot.style.background = E.methods[m].colour;
  return dot;
}

function fillControls() {
  one("count").textContent = (faces.length === N ? `${N} test faces` : `${faces.length} of ${N} test faces`) +
    (lacking.length ? `; this folder has no ${lacking.join(", ")}` : "");
  const body = document.querySelector("#methods tbody");
  body.textContent = "";
  E.methods.forEach((_, m) => {
    const {nme, fr} = means(m, faces);
    fillRow(body, ["", nme === FAILED ? "∞" : percent(nme), percent(fr, 1)], "td").firstChild.append(methodSwitch(m, view));
  });
  for (const id of ["sort", "a", "b", "group", "subset", "find"]) one(id).value = view[id];
  one("ascending").checked = view.ascending;
  for (const id of ["yaw", "side"]) ["low", "high"].forEach((end, i) => (one(`${id}-${end}`).value = view[id][i] ?? ""));
  one("label-b").hidden = view.sort !== "difference";
  one("label-group").hidden = !["error", "difference"].includes(view.sort);
}

function makeControls() {
  for (const [value, text] of sorts()) option(one("sort"), value, text);
  E.methods.forEach((method, m) => ["a", "b"].forEach(id => option(one(id), m, method.name)));
  option(one("group"), "", "all landmarks");
  for (const name of Object.keys(E.groups)) option(one("group"), name, name);
  option(one("subset"), "", "all");
  for (const name of E.subsets) option(one("subset"), name, name);
  one("label-subset").hidden = !E.subsets.length;
  one("label-yaw").hidden = !E.faces.yaw;
  one("fr").textContent = `FR@${E.threshold}`;
  one("legend").append(
    `Errors are in % of the ${E.normaliser}. White dots: annotation; in colour: predictions, and lines to them. ` +
    "“mouth 2.9×”: the part whose error is the highest multiple of the method's mean on it. " +
    `Strip: the NME of every method from 0 to ${2 * E.threshold} %, red above ${E.threshold} %; × is a face without prediction. ` +
    "Of a landmark, mean: the method's error on it over the test faces; expected: what the method says of this face.");
  one("sort").addEventListener("change", () => sortBy({sort: one("sort").value}));
  for (const id of ["a", "b"]) one(id).addEventListener("change", () => sortBy({[id]: Number(one(id).value)}));
  for (const id of ["group", "subset"]) one(id).addEventListener("change", () => change({[id]: one(id).value}));
  one("ascending").addEventListener("change", () => change({ascending: one("ascending").checked}));
  one("find").addEventListener("input", () => change({find: one("find").value}));
  for (const id of ["yaw", "side"])
    for (const end of ["low", "high"])
      one(`${id}-${end}`).addEventListener("change", () =>
        change({[id]: ["low", "high"].map(e => (one(`${id}-${e}`).value === "" ? null : Number(one(`${id}-${e}`).value)))}));
  one("reset").addEventListener("click", () => change({subset: "", yaw: [null, null], side: [null, null], find: ""}));
  one("rows").addEventListener("click", event => {
    const tile = event.target.closest(".tile");
    if (tile) openFace(Number(tile.dataset.face));
  });
  one("previous").addEventListener("click", () => step(-1));
  one("next").addEventListener("click", () => step(1));
  one("close").addEventListener("click", () => change({face: -1}, false));
}

document.addEventListener("keydown", event => {
  if (view.face < 0 || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=search], input[type=number]")) return;
  const keys = {
    ArrowRight: () => step(1), ArrowLeft: () => step(-1), Escape: () => change({face: -1}, false),
    t: () => change({truth: !view.truth}, false),
    n: () => { large.numbers = !large.numbers; large.draw(); },
    l: () => { large.off = !large.off; large.draw(); },
  };
  const act = keys[event.key] || keys[event.key.toLowerCase()];
  if (act) act();
  else if (/^[1-9]$/.test(event.key) && event.key <= E.methods.length) toggle(Number(event.key) - 1);
  else return;
  event.preventDefault();
});

function openAddress() {
  [view, lacking] = fromHash(location.hash);
  show();
  if (view.face >= 0) grid.reveal(view.face);
}

// The coordinates, after the first grid: one file for each method, which may be large.
function load(file) {
  const script = document.createElement("script");
  script.src = `data/${file}.js`;
  script.addEventListener("load", () => show(false));
  document.body.append(script);
}

makeControls();
openAddress();
window.addEventListener("popstate", openAddress);
requestAnimationFrame(() => ["truth", ...E.methods.keys()].forEach(load));
