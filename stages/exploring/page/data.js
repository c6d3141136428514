"use strict";
// The faces and their errors: values to sort by, filters, means. Knows nothing of the page.

const E = window.EXPLORER;
const N = E.faces.id.length;
const FAILED = Infinity; // the error of a face without a prediction
const truthOf = E.methods.map(m => m.landmarks);
const coordinates = new Map(); // by "truth" or a method's name: Float32Array, window px, NaN where there is none

const expectations = new Map(); // by the name of a method that has some: Float32Array, percent
const numbers = values => Float32Array.from(values, value => (value === null ? NaN : value / E.steps));

E.receive = (name, points, expected) => {
  coordinates.set(name, numbers(points));
  if (expected) expectations.set(name, numbers(expected));
};

// The points of a face, x0, y0, x1, …; null before they are loaded.
function pointsOf(name, face, count) {
  const all = coordinates.get(name);
  return all ? all.subarray(face * count * 2, (face + 1) * count * 2) : null;
}
const truth = face => pointsOf("truth", face, E.landmarks);
const predicted = (m, face) => pointsOf(E.methods[m].name, face, truthOf[m].length);

// The error that a method itself expects of its i-th landmark, NaN where it says none.
function expectedOf(m, face, i) {
  const all = expectations.get(E.methods[m].name);
  return all ? all[face * truthOf[m].length + i] : NaN;
}

// The error of each of a method's landmarks, in image px and in percent: Infinity without a prediction, NaN without an
// annotation.
function landmarkErrors(m, face) {
  const points = predicted(m, face), annotated = truth(face);
  if (!points || !annotated) return null;
  const scale = E.faces.scale[face];
  return truthOf[m].map((k, i) => {
    const x = annotated[2 * k], y = annotated[2 * k + 1];
    const gap = Math.hypot(points[2 * i] - x, points[2 * i + 1] - y) * scale;
    const px = Number.isNaN(x) ? NaN : Number.isNaN(gap) ? FAILED : gap;
    return {px, percent: (100 * px) / E.faces.normaliser[face]};
  });
}

const groupOf = k => Object.keys(E.groups).find(name => E.groups[name].includes(k)) || "";
const failed = (m, face) => E.methods[m].nme[face] === FAILED;

// A face's error on all landmarks (group "") or on those of a group. A face that misses a prediction has failed on all.
function errorOf(m, face, group) {
  const method = E.methods[m];
  if (!group || failed(m, face)) return method.nme[face];
  return group in method.groups ? method.groups[group][face] : NaN;
}

// What a method's error on each group of landmarks usually is: the mean over the test faces.
const usual = E.methods.map(method => Object.fromEntries(Object.entries(method.groups).map(([name, errors]) => {
  const known = errors.filter(Number.isFinite);
  return [name, known.reduce((sum, error) => sum + error, 0) / known.length];
})));

// The group of landmarks whose error is the highest multiple of what it usually is; null where nothing is known. (The
// largest error in itself is nearly always that of the jaw.)
function worstGroup(m, face) {
  let worst = null;
  for (const [name, errors] of Object.entries(E.methods[m].groups)) {
    const times = errors[face] / usual[m][name];
    if (Number.isFinite(times) && (!worst || times > worst.times)) worst = {name, error: errors[face], times};
  }
  return failed(m, face) ? null : worst;
}

const suspectScore = face => (E.suspects && E.suspects[face] ? E.suspects[face][0][4] : NaN);

// What a face is sorted by; NaN is last in either order.
function sortValue(face, view) {
  switch (view.sort) {
    case "error": return errorOf(view.a, face, view.group);
    case "difference": return errorOf(view.a, face, view.group) - errorOf(view.b, face, view.group);
    case "suspect": return suspectScore(face);
    case "yaw": return Math.abs(E.faces.yaw[face]);
    case "side": return E.faces.side[face];
    default: return face;
  }
}

function passes(face, view) {
  const faces = E.faces, yaw = faces.yaw && Math.abs(faces.yaw[face]), side = faces.side[face];
  if (view.subset && !faces.subsets[face].includes(E.subsets.indexOf(view.subset))) return false;
  if (view.yaw[0] !== null && !(yaw >= view.yaw[0])) return false; // also where the yaw is not known
  if (view.yaw[1] !== null && !(yaw <= view.yaw[1])) return false;
  if (view.side[0] !== null && side < view.side[0]) return false;
  if (view.side[1] !== null && side > view.side[1]) return false;
  return !view.find || (faces.id[face] + " " + faces.image[face]).toLowerCase().includes(view.find.toLowerCase());
}

// The faces that pass the filter, sorted; equal ones in the dataset's order.
function chosenFaces(view) {
  const chosen = [], values = new Float64Array(N), sign = view.ascending ? 1 : -1;
  for (let face = 0; face < N; face++)
    if (passes(face, view)) {
      chosen.push(face);
      values[face] = sortValue(face, view);
    }
  return chosen.sort((one, other) => {
    const a = values[one], b = values[other];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || one - other;
    return a === b ? one - other : sign * (a < b ? -1 : 1);
  });
}

// The mean error of some faces, infinite if one has failed, and the share above the threshold, in percent.
function means(m, faces) {
  const known = faces.map(face => E.methods[m].nme[face]).filter(nme => !Number.isNaN(nme));
  const share = known.filter(nme => nme > E.threshold).length / known.length;
  return {nme: known.reduce((sum, nme) => sum + nme, 0) / known.length, fr: 100 * share};
}

const percent = (value, digits = 2) =>
  value === FAILED ? "failed" : Number.isNaN(value) ? "–" : value.toFixed(digits);
