"""Google's MediaPipe face mesh (478 points) on a table of faces, as their landmarks. Needs an environment of its own.

    .venv/mediapipe/bin/python stages/methods/mediapipe_mesh.py ridge FACES OUT --train TRAIN --time FILE
    .venv/mediapipe/bin/python stages/methods/mediapipe_mesh.py fixed FACES OUT

`make mediapipe` makes that environment: the package needs protobuf 4, and the project's own another one. `fixed` takes
for each landmark the point of the mesh that is nearest to it by definition; the jaw of the mesh is another line than
that of 68-point annotations. `ridge` maps the whole mesh by a linear ridge regression that is fitted on the training
faces; its penalty is chosen on them by cross-validation. Where no mesh is found a face has no prediction.

Symbols: N faces, M = 478 points of the mesh.
"""

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np

MARGINS = (0.4, 0.8, 0.2)  # face boxes about the box, tried in this order until a mesh is found
SIDE = 512  # px to which a window is resized at most
PENALTIES = np.logspace(-4, 3, 15)
FOLDS = 5
# The point of the mesh for each landmark of scheme 300w, counted from 0
FIXED = [
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,  # mouth
]  # fmt: skip


def read_faces(path: Path) -> tuple[list[dict[str, str]], np.ndarray, np.ndarray]:
    """The rows of a table, their boxes (N, 4), and landmarks (N, K, 2), NaN where there are none."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    count = sum(name[1:].isdigit() for name in rows[0]) // 2

    def number(row: dict[str, str], name: str) -> float:
        return float(row[name]) if row[name] else np.nan

    boxes = np.array([[number(row, name) for name in ("x_min", "y_min", "x_max", "y_max")] for row in rows])
    points = np.array([[[number(row, f"{axis}{k}") for axis in "xy"] for k in range(count)] for row in rows])
    return rows, boxes, points.reshape(len(rows), -1, 2)


def meshes(rows: list[dict[str, str]], boxes: np.ndarray) -> tuple[np.ndarray, float]:
    """(N, M, 2) px, NaN where no mesh is found, and the milliseconds a face without reading the image."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    found, seconds, path, image = np.full((len(rows), 478, 2), np.nan), 0.0, None, None
    with FaceMesh(
        static_image_mode=True, max_num_faces=4, refine_landmarks=True, min_detection_confidence=0.2
    ) as model:
        for i, row in enumerate(rows):
            if row["image"] != path:
                path = row["image"]
                image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            start = time.perf_counter()
            for margin in MARGINS:
                mesh = mesh_at(model, image, boxes[i], margin)
                if mesh is not None:
                    found[i] = mesh
                    break
            seconds += time.perf_counter() - start
    return found, 1000 * seconds / len(rows)


def mesh_at(model, image: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray | None:
    """(M, 2) px: the mesh found in a window about the box that overlaps it best, if one does by half."""
    corner = np.floor(box[:2] - margin * (box[2:] - box[:2])).astype(int)
    end = np.ceil(box[2:] + margin * (box[2:] - box[:2])).astype(int) + 1
    (x0, y0), (x1, y1) = corner, end
    height, width = image.shape[:2]
    window = image[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if not window.size:
        return None
    border = [max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)]
    window = cv2.copyMakeBorder(window, *map(int, border), cv2.BORDER_CONSTANT)
    size = np.array(window.shape[1::-1])
    if size.max() > SIDE:
        window = cv2.resize(window, tuple(np.maximum(1, size * SIDE // size.max())), interpolation=cv2.INTER_AREA)
    faces = model.process(window).multi_face_landmarks or []
    # shares of the width and height of the window, whose pixels' centres are half a pixel from its edges
    points = [np.array([(point.x, point.y) for point in face.landmark]) * size - 0.5 + corner for face in faces]
    overlaps = [overlap(np.concatenate([mesh.min(0), mesh.max(0)]), box) for mesh in points]
    best = int(np.argmax(overlaps)) if points else -1
    return points[best] if points and overlaps[best] > 0.3 else None


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    common = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    return common / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - common)


def frames(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre (N, 1, 2) and size (N, 1, 1) of each mesh, in which the regression works."""
    centre = found.mean(1, keepdims=True)
    return centre, np.sqrt(((found - centre) ** 2).sum(2, keepdims=True).mean(1, keepdims=True))


def fit(features: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """The weights (features + 1, targets) of a ridge regression with a free constant."""
    mean = features.mean(0)
    centred = features - mean
    gram = centred.T @ centred + penalty * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (targets - targets.mean(0)))
    return np.concatenate([weights, (targets.mean(0) - mean @ weights)[None]])


def predicted(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return features @ weights[:-1] + weights[-1]


def ridge(found: np.ndarray, landmarks: np.ndarray, images: list[str]) -> np.ndarray:
    """The weights from a mesh to landmarks, in the frame of each mesh; faces of one image are in one fold."""
    known = np.isfinite(found).all((1, 2)) & np.isfinite(landmarks).all((1, 2))
    found, landmarks = found[known], landmarks[known]
    centre, size = frames(found)
    features, targets = ((points - centre) / size for points in (found, landmarks))
    features, targets = features.reshape(len(found), -1), targets.reshape(len(found), -1)
    order = {image: i for i, image in enumerate(dict.fromkeys(images))}
    fold = np.array([order[image] % FOLDS for image, keep in zip(images, known, strict=True) if keep])
    errors = [
        sum(((predicted(features[fold == k], fit(features[fold != k], targets[fold != k], penalty))
              - targets[fold == k]) ** 2).sum() for k in range(FOLDS))
        for penalty in PENALTIES
    ]  # fmt: skip
    penalty = PENALTIES[int(np.argmin(errors))]
    print(f"ridge regression on {len(found)} training faces, penalty {penalty:.3g}", flush=True)
    return fit(features, targets, penalty)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("map", choices=("fixed", "ridge"))
    parser.add_argument("faces", type=Path, help="a table of faces: face_id, image, x_min, y_min, x_max, y_max")
    parser.add_argument("out", type=Path, help="the CSV file of predictions")
    parser.add_argument("--train", type=Path, help="the training faces, with x0, y0, …: for ridge")
    parser.add_argument("--time", type=Path, help="a file for the milliseconds a face")
    arguments = parser.parse_args()
    rows, boxes, _ = read_faces(arguments.faces)
    found, milliseconds = meshes(rows, boxes)
    if arguments.map == "fixed":
        landmarks = found[:, FIXED]
    else:
        train, train_boxes, annotated = read_faces(arguments.train)
        weights = ridge(meshes(train, train_boxes)[0], annotated, [row["image"] for row in train])
        centre, size = frames(found)
        flat = predicted(((found - centre) / size).reshape(len(found), -1), weights)
        landmarks = flat.reshape(len(found), -1, 2) * size + centre
    missing = int(np.isnan(found).any((1, 2)).sum())
    print(f"{len(rows)} faces, {missing} of them without a mesh, {milliseconds:.1f} ms a face", flush=True)
    names = [f"{axis}{k}" for k in range(landmarks.shape[1]) for axis in "xy"]
    with open(arguments.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("face_id", "image", *names))
        for row, points in zip(rows, landmarks, strict=True):
            values = ["" if np.isnan(value) else f"{value:.4f}" for value in points.reshape(-1)]
            writer.writerow((row["face_id"], row["image"], *values))
    if arguments.time:
        arguments.time.write_text(f"{milliseconds:.4f}\n")


if __name__ == "__main__":
    main()
