"use strict";
// All chosen faces as a grid in which only the rows in sight, and a few about them, are in the page.

const TILE = 150, GAP = 8, CAPTION = 58, SPARE = 2; // CSS px, at least; rows above and below those in sight

const grid = {
  faces: [],
  view: null,
  tiles: new Map(), // by place in `faces`
  unused: [],
  columns: 1,
  side: TILE, // of a tile
  box: document.getElementById("grid"),
  rows: document.getElementById("rows"),

  show(faces, view) {
    this.faces = faces;
    this.view = view;
    document.getElementById("none").hidden = faces.length > 0;
    this.clear();
    this.layout();
  },

  clear() {
    for (const tile of this.tiles.values()) this.release(tile);
    this.tiles.clear();
  },

  release(tile) {
    tile.remove();
    this.unused.push(tile);
  },

  layout() {
    const columns = Math.max(1, Math.floor((this.box.clientWidth - GAP) / (TILE + GAP)));
    const side = Math.floor((this.box.clientWidth - GAP) / columns) - GAP;
    if (columns !== this.columns || side !== this.side) this.clear();
    Object.assign(this, {columns, side});
    this.rows.style.height = `${Math.ceil(this.faces.length / columns) * this.step + GAP}px`;
    this.update();
  },

  // From one row to the next.
  get step() {
    return this.side + CAPTION + GAP;
  },

  // Make the tiles that have come into sight, and take away those that have left it.
  update() {
    const height = this.step, top = this.box.scrollTop;
    const first = Math.max(0, Math.floor(top / height) - SPARE) * this.columns;
    const last = Math.min(this.faces.length, (Math.ceil((top + this.box.clientHeight) / height) + SPARE) * this.columns);
    for (const [place, tile] of this.tiles)
      if (place < first || place >= last) {
        this.release(tile);
        this.tiles.delete(place);
      }
    const added = document.createDocumentFragment();
    for (let place = first; place < last; place++)
      if (!this.tiles.has(place)) added.append(this.tile(place));
    this.rows.append(added);
  },

  tile(place) {
    const tile = this.unused.pop() || this.make(), face = this.faces[place];
    const x = GAP + (place % this.columns) * (this.side + GAP), y = GAP + Math.floor(place / this.columns) * this.step;
    Object.assign(tile.style, {
      transform: `translate(${x}px,${y}px)`, width: `${this.side}px`, height: `${this.side + CAPTION}px`,
    });
    tile.dataset.face = face;
    this.tiles.set(place, tile);
    this.paint(tile, face);
    return tile;
  },

  make() {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.className = "tile";
    for (const [name, part] of [["canvas", "thumb"], ["div", "value"], ["canvas", "strip"], ["div", "tags"]]) {
      const element = document.createElement(name);
      element.className = part;
      tile.append(element);
    }
    return tile;
  },

  paint(tile, face) {
    const [thumb, value, strip, tags] = tile.children, view = this.view;
    const look = {truth: view.truth, methods: [...view.shown], radius: 1.4, line: 1.4, halo: 0.8};
    drawThumb(thumb, face, this.side, look, () => Number(tile.dataset.face) === face && this.paint(tile, face));
    const error = errorOf(view.a, face, view.group), worst = worstGroup(view.a, face);
    value.textContent = "";
    const number = document.createElement("b");
    number.textContent = caption(face, view);
    value.append(number, worst && !view.group ? ` ${worst.name} ${worst.times.toFixed(1)}×` : "");
    tile.classList.toggle("fails", error > E.threshold);
    drawStrip(strip, face, this.side, 10);
    const yaw = E.faces.yaw ? E.faces.yaw[face] : NaN;
    tags.textContent = [
      Number.isNaN(yaw) ? "" : `${Math.abs(yaw).toFixed(0)}°`, `${E.faces.side[face].toFixed(0)} px`,
      ...E.faces.subsets[face].map(i => E.subsets[i]),
    ].filter(Boolean).join(" · ");
    tile.title = `${E.faces.image[face]}\n${tags.textContent}\n` + E.methods.map(m => `${m.name}: ${percent(m.nme[face])}`).join("\n");
  },

  repaint() {
    for (const [place, tile] of this.tiles) this.paint(tile, this.faces[place]);
  },

  // Scroll so that a face is in sight.
  reveal(face) {
    const place = this.faces.indexOf(face);
    if (place < 0) return;
    const height = this.step, top = Math.floor(place / this.columns) * height;
    if (top < this.box.scrollTop || top + height > this.box.scrollTop + this.box.clientHeight)
      this.box.scrollTop = top - (this.box.clientHeight - height) / 2;
    this.update();
  },
};

// What a face is sorted by, for a person.
function caption(face, view) {
  const value = sortValue(face, view);
  switch (view.sort) {
    case "difference": return (value > 0 ? "+" : value < 0 ? "−" : "") + percent(Math.abs(value));
    case "suspect": return Number.isNaN(value) ? "–" : `score ${value.toFixed(1)}`;
    case "error": return percent(value);
    default: return percent(errorOf(view.a, face, view.group));
  }
}

let frame = 0;
grid.box.addEventListener("scroll", () => {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => grid.update());
});
window.addEventListener("resize", () => grid.layout());
