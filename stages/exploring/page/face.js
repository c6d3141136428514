"use strict";
// One face large: picture and landmarks, the errors of each method, and those of the landmark under the pointer.

const NEAR = 16; // CSS px from the pointer to a landmark
const MARGIN = 0.08; // about the landmarks, of the window's side

const large = {
  box: document.getElementById("large"),
  stage: document.getElementById("stage"),
  canvas: document.getElementById("picture"),
  face: -1,
  landmark: -1,
  window: null, // {x, y, side}: what is shown, window px
  image: null,
  numbers: false,
  off: false,

  open(face, view, position) {
    const other = face !== this.face;
    this.view = view;
    this.box.hidden = false;
    document.getElementById("position").textContent = position;
    if (other) {
      this.face = face;
      this.landmark = -1;
      this.window = null;
      this.off = false;
      this.image = E.pictures ? new Image() : null;
      if (this.image) {
        this.image.onload = () => this.draw();
        this.image.src = pictureOf(face);
      }
    }
    this.tell();
    this.draw();
  },

  close() {
    this.box.hidden = true;
    this.face = -1;
    this.image = null;
  },

  // The part of the window that has every landmark shown, but not more than the window.
  fit() {
    const {first, side} = E.thumb, sets = [truth(this.face), ...[...this.view.shown].map(m => predicted(m, this.face))];
    let [left, top, right, bottom] = [first, first, first + side, first + side];
    for (const points of sets)
      for (let i = 0; points && i < points.length; i += 2)
        if (!Number.isNaN(points[i])) {
          const margin = MARGIN * side;
          [left, right] = [Math.min(left, points[i] - margin), Math.max(right, points[i] + margin)];
          [top, bottom] = [Math.min(top, points[i + 1] - margin), Math.max(bottom, points[i + 1] + margin)];
        }
    const width = Math.min(Math.max(right - left, bottom - top), E.size);
    const corner = (low, high) => Math.min(Math.max((low + high - width) / 2, 0), E.size - width);
    return {x: corner(left, right), y: corner(top, bottom), side: width};
  },

  draw() {
    if (this.face < 0) return;
    const side = Math.max(200, Math.min(this.stage.clientWidth, this.stage.clientHeight));
    const draw = context(this.canvas, side, side), shown = this.window || this.fit();
    const view = {x: shown.x, y: shown.y, scale: side / shown.side};
    this.drawn = view;
    draw.fillStyle = PLAIN;
    draw.fillRect(0, 0, side, side);
    if (this.image && this.image.complete && this.image.naturalWidth)
      draw.drawImage(this.image, ...toCanvas(view, -0.5, -0.5), E.size * view.scale, E.size * view.scale);
    if (!this.off) {
      drawLandmarks(draw, this.face, view, {truth: this.view.truth, methods: [...this.view.shown], radius: 3, line: 1.6, halo: 1});
      this.mark(draw, view);
    }
    this.drawProfile();
  },

  // Rings about suspect landmarks and the one under the pointer, and its number, or all where they are asked for.
  mark(draw, view) {
    const points = truth(this.face);
    if (!points) return;
    const ring = (k, radius, colour) => {
      if (Number.isNaN(points[2 * k])) return;
      draw.beginPath();
      draw.arc(...toCanvas(view, points[2 * k], points[2 * k + 1]), radius, 0, 2 * Math.PI);
      draw.strokeStyle = colour;
      draw.lineWidth = 2;
      draw.stroke();
    };
    for (const [k] of (E.suspects && E.suspects[this.face]) || []) ring(k, 8, SUSPECT);
    if (this.landmark >= 0) ring(this.landmark, 6, "#fff");
    draw.font = "600 11px system-ui, sans-serif";
    draw.lineWidth = 2.5;
    draw.strokeStyle = "#000";
    draw.fillStyle = "#fff";
    for (let k = 0; k < E.landmarks; k++)
      if ((this.numbers || k === this.landmark) && !Number.isNaN(points[2 * k])) {
        const [x, y] = toCanvas(view, points[2 * k], points[2 * k + 1]);
        draw.strokeText(k, x + 7, y - 7);
        draw.fillText(k, x + 7, y - 7);
      }
  },

  // The landmark nearest to the pointer, by its annotated or a predicted position that is shown; -1 where none is near.
  at(x, y) {
    let best = -1, least = NEAR;
    const look = (points, number) => {
      for (let i = 0; points && i < points.length; i += 2) {
        const [px, py] = toCanvas(this.drawn, points[i], points[i + 1]), gap = Math.hypot(px - x, py - y);
        if (gap < least) [least, best] = [gap, number(i / 2)];
      }
    };
    if (this.view.truth) look(truth(this.face), k => k);
    for (const m of this.view.shown) look(predicted(m, this.face), i => truthOf[m][i]);
    return best;
  },

  point(landmark) {
    if (landmark === this.landmark) return;
    this.landmark = landmark;
    this.tell();
    this.draw();
  },

  tell() {
    const {face, landmark} = this, faces = E.faces, yaw = faces.yaw ? faces.yaw[face] : NaN;
    document.getElementById("name").textContent = faces.image[face];
    document.getElementById("facts").textContent = [
      `face box ${faces.side[face].toFixed(0)} px`, `${E.normaliser} ${faces.normaliser[face].toFixed(1)} px`,
      Number.isNaN(yaw) ? "" : `yaw ${yaw.toFixed(0)}°`, ...faces.subsets[face].map(i => E.subsets[i]),
      faces.id[face].endsWith(faces.image[face]) ? "" : faces.id[face],
    ].filter(Boolean).join(" · ");
    const body = emptied("#errors", ["shown", "NME", "rank", "most unusual part"]);
    const at = emptied("#at", ["", "error px", "%", "mean %", "expected %"]);
    E.methods.forEach((method, m) => {
      const worst = worstGroup(m, face), error = method.nme[face];
      const part = worst ? `${worst.name} ${percent(worst.error, 1)}, ${worst.times.toFixed(1)}×` : "–";
      const row = fillRow(body, ["", percent(error), rankOf(m, face), part], "td");
      row.classList.toggle("fails", error > E.threshold);
      row.firstChild.append(methodSwitch(m, this.view));
      const i = truthOf[m].indexOf(landmark), errors = landmarkErrors(m, face);
      let cells = ["–", "–", "–", "–"];
      if (i >= 0 && errors) {
        const {px, percent: share} = errors[i];
        cells = [percent(px, 1), percent(share), percent(method.means[i]), percent(expectedOf(m, face, i))];
      }
      fillRow(at, ["", ...cells], "td").firstChild.append(swatch(m), method.name);
    });
    this.tellLandmark();
    const suspects = (E.suspects && E.suspects[face]) || [];
    document.getElementById("suspects").textContent = suspects.length ? "Suspect annotation (yellow rings): " +
      suspects.map(([k, px, share, spread, score]) =>
        `${k} is ${px.toFixed(1)} px (${percent(share, 1)} %) from the methods, which are ${percent(spread, 1)} % apart; ` +
        `score ${score.toFixed(1)}`).join(". ") + "." : "";
  },

  tellLandmark() {
    const {face, landmark} = this, text = document.getElementById("landmark");
    if (landmark < 0) {
      text.textContent = "Point at a landmark, or below, for its number and errors.";
      return;
    }
    const annotated = truth(face), hidden = (E.hidden[face] || []).includes(landmark);
    const state = annotated && Number.isNaN(annotated[2 * landmark]) ? "not annotated" : hidden ? "annotated as hidden" : "";
    text.textContent = [`Landmark ${landmark}`, groupOf(landmark), state].filter(Boolean).join(", ");
  },

  // The error of each landmark by its number, and thin the method's mean over the test faces.
  drawProfile() {
    const canvas = document.getElementById("profile"), width = canvas.parentElement.clientWidth - 32, height = 130;
    const draw = context(canvas, width, height), shown = [...this.view.shown], floor = height - 16;
    draw.clearRect(0, 0, width, height);
    const lines = shown.map(m => landmarkErrors(m, this.face)).map(errors => errors && errors.map(e => e.percent));
    const finite = lines.flat().filter(Number.isFinite);
    const top = Math.max(E.threshold * 1.5, ...finite) * 1.05;
    const x = k => 26 + ((k + 0.5) * (width - 30)) / E.landmarks, y = error => floor - (floor - 4) * (error / top);
    draw.font = "11px system-ui, sans-serif";
    Object.entries(E.groups).forEach(([name, members], i) => {
      const low = x(Math.min(...members) - 0.5), high = x(Math.max(...members) + 0.5);
      draw.fillStyle = i % 2 ? "#fff" : "#f1f1ed";
      draw.fillRect(low, 0, high - low, floor);
      draw.fillStyle = "#555";
      if (high - low > draw.measureText(name).width) draw.fillText(name, low + 2, height - 4);
    });
    draw.fillStyle = "#555";
    for (const error of [0, E.threshold]) draw.fillText(error.toFixed(0), 2, y(error) + 3);
    draw.fillStyle = "#c9c9c2";
    draw.fillRect(24, y(E.threshold), width - 24, 1);
    if (this.landmark >= 0) draw.fillRect(x(this.landmark) - 1, 0, 2, floor);
    shown.forEach((m, j) => {
      const line = (errors, thick) => {
        draw.beginPath();
        errors.forEach((error, i) => Number.isFinite(error) && draw.lineTo(x(truthOf[m][i]), y(Math.min(error, top))));
        draw.strokeStyle = E.methods[m].colour;
        draw.globalAlpha = thick ? 1 : 0.5;
        draw.lineWidth = thick ? 1.6 : 0.8;
        draw.setLineDash(thick ? [] : [3, 2]);
        draw.stroke();
      };
      line(E.methods[m].means, false);
      if (lines[j]) line(lines[j], true);
      draw.globalAlpha = 1;
      draw.setLineDash([]);
    });
    this.profile = {at: px => Math.min(E.landmarks - 1, Math.max(0, Math.floor(((px - 26) * E.landmarks) / (width - 30))))};
  },

  zoom(event) {
    const box = this.canvas.getBoundingClientRect(), shown = this.window || this.fit();
    const side = Math.min(E.size, Math.max(24, shown.side * Math.exp(event.deltaY / 400)));
    const keep = (offset, low) => low + (offset / box.width) * (shown.side - side); // what is under the pointer stays
    const corner = low => Math.min(Math.max(low, 0), E.size - side);
    this.window = {
      x: corner(keep(event.clientX - box.left, shown.x)), y: corner(keep(event.clientY - box.top, shown.y)), side,
    };
    this.draw();
  },
};

// The body of a table, emptied, under this head.
function emptied(table, head) {
  fillRow(document.querySelector(`${table} thead`), head, "th");
  const body = document.querySelector(`${table} tbody`);
  body.textContent = "";
  return body;
}

const pictureOf = face => `faces/${String(face).padStart(5, "0")}.jpg`;

function fillRow(parent, texts, kind) {
  if (kind === "th") parent.textContent = "";
  const row = document.createElement("tr");
  for (const text of texts) {
    const cell = document.createElement(kind);
    cell.textContent = text;
    row.append(cell);
  }
  parent.append(row);
  return row;
}

// A face's place among those that can be measured, the largest error first.
function rankOf(m, face) {
  const own = E.methods[m].nme[face];
  if (Number.isNaN(own)) return "–";
  const known = E.methods[m].nme.filter(nme => !Number.isNaN(nme));
  return `${1 + known.filter(nme => nme > own).length} of ${known.length}`;
}

const pointer = event => [event.offsetX, event.offsetY];
large.canvas.addEventListener("mousemove", event => large.point(large.at(...pointer(event))));
large.canvas.addEventListener("dblclick", () => {
  large.window = null;
  large.draw();
});
large.canvas.addEventListener("wheel", event => {
  event.preventDefault();
  large.zoom(event);
}, {passive: false});
document.getElementById("profile").addEventListener("mousemove", event => large.point(large.profile.at(event.offsetX)));
window.addEventListener("resize", () => large.draw());
