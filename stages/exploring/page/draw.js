"use strict";
// Faces on a canvas: picture, annotation, predictions, and the line from each annotated position to the predicted one.

const PLAIN = "#8b8b86", TRUTH = "#ffffff", SUSPECT = "#ffe100";

// A canvas of so many CSS px, sharp on any screen; its context draws in CSS px.
function context(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  return draw;
}

// view: {x, y, scale}: the window px at the canvas's corner, and CSS px in a window px. A pixel's middle is at whole
// numbers, so the window's edge is at -0.5.
const toCanvas = (view, x, y) => [(x + 0.5 - view.x) * view.scale, (y + 0.5 - view.y) * view.scale];

function dots(draw, points, view, radius, fill, rim, hollow) {
  for (let i = 0; i < points.length; i += 2) {
    if (Number.isNaN(points[i])) continue;
    const [x, y] = toCanvas(view, points[i], points[i + 1]);
    draw.beginPath();
    draw.arc(x, y, radius, 0, 2 * Math.PI);
    draw.fillStyle = fill;
    draw.strokeStyle = rim;
    if (!(hollow && hollow.has(i / 2))) draw.fill();
    else draw.strokeStyle = fill;
    draw.stroke();
  }
}

// The landmarks of a face. look: {truth, methods: [numbers], radius, line, halo}: CSS px.
function drawLandmarks(draw, face, view, look) {
  const annotated = truth(face);
  if (!annotated) return;
  for (const m of look.methods) {
    const points = predicted(m, face);
    if (!points) continue;
    draw.beginPath();
    truthOf[m].forEach((k, i) => {
      if (Number.isNaN(annotated[2 * k] + points[2 * i])) return;
      draw.moveTo(...toCanvas(view, annotated[2 * k], annotated[2 * k + 1]));
      draw.lineTo(...toCanvas(view, points[2 * i], points[2 * i + 1]));
    });
    draw.strokeStyle = "rgba(255,255,255,.7)";
    draw.lineWidth = look.line + look.halo;
    draw.stroke();
    draw.strokeStyle = E.methods[m].colour;
    draw.lineWidth = look.line;
    draw.stroke();
  }
  draw.lineWidth = Math.max(0.5, look.radius / 4);
  if (look.truth) dots(draw, annotated, view, look.radius, TRUTH, "#000", new Set(E.hidden[face]));
  for (const m of look.methods) {
    const points = predicted(m, face);
    if (points) dots(draw, points, view, look.radius, E.methods[m].colour, look.halo < 1 ? E.methods[m].colour : "#fff");
  }
}

const sheets = new Map();

// The sheet of thumbnails that has this face; `ready` is called once it can be drawn.
function sheetOf(face, ready) {
  const number = Math.floor(face / E.thumb.columns ** 2);
  let sheet = sheets.get(number);
  if (!sheet) {
    sheet = new Image();
    sheet.src = `sheets/${String(number).padStart(3, "0")}.jpg`;
    sheets.set(number, sheet);
  }
  if (!sheet.complete) sheet.addEventListener("load", ready, {once: true});
  return sheet;
}

// A thumbnail of `px` CSS px with the shown landmarks.
function drawThumb(canvas, face, px, look, again) {
  const draw = context(canvas, px, px), {columns, px: own, first, side} = E.thumb;
  draw.fillStyle = PLAIN;
  draw.fillRect(0, 0, px, px);
  if (E.pictures) {
    const sheet = sheetOf(face, again), i = face % columns ** 2;
    if (sheet.complete && sheet.naturalWidth)
      draw.drawImage(sheet, own * (i % columns), own * Math.floor(i / columns), own, own, 0, 0, px, px);
  }
  drawLandmarks(draw, face, {x: first, y: first, scale: px / side}, look);
}

// Each method's error as a dot between 0 and twice the threshold, beyond which the strip is red; a cross has failed.
function drawStrip(canvas, face, width, height) {
  const draw = context(canvas, width, height), end = width - 6, middle = height / 2;
  const place = error => 4 + ((end - 4) * Math.min(error, 2 * E.threshold)) / (2 * E.threshold);
  draw.clearRect(0, 0, width, height);
  draw.fillStyle = "#e4e4df";
  draw.fillRect(0, middle - 0.5, width, 1);
  draw.fillStyle = "#f7dcd6";
  draw.fillRect(place(E.threshold), 0, width, height);
  E.methods.forEach((method, m) => {
    const error = method.nme[face];
    if (Number.isNaN(error)) return;
    draw.fillStyle = draw.strokeStyle = method.colour;
    draw.lineWidth = 1.8;
    draw.beginPath();
    const x = place(error);
    if (error === FAILED) {
      draw.moveTo(x - 3, middle - 3);
      draw.lineTo(x + 3, middle + 3);
      draw.moveTo(x - 3, middle + 3);
      draw.lineTo(x + 3, middle - 3);
      draw.stroke();
    } else {
      draw.arc(x, middle, 3, 0, 2 * Math.PI);
      draw.fill();
    }
  });
}
