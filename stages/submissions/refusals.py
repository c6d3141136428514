"""What keeps predictions from being measured: each function raises `InputError` that says what it is and what to do."""

import numpy as np

from stages.data.scheme import DatasetScheme
from stages.submissions import conventions
from stages.submissions.submission import Submission
from stages.system.errors import InputError


def require_landmarks(submission: Submission, count: int, owner: str, others: dict[str, int], what: str) -> None:
    """`count` landmarks of `owner`, a scheme or a dataset; others: the schemes and their numbers of landmarks."""
    k = submission.points.shape[1]
    if k == count:
        return
    same = [name for name, number in others.items() if number == k]
    hint = f" If they are those of scheme {' or '.join(same)}, say so: --scheme {same[0]}." if same else ""
    raise InputError(f"{what}: its faces have {k} landmarks, and {owner} has {count}.{hint}")


def require_dataset(submission: Submission, dataset: str, what: str) -> None:
    if submission.dataset not in (None, dataset):
        raise InputError(
            f"{what} holds predictions on {submission.dataset}, not on {dataset}: measure them with "
            f"--dataset {submission.dataset}."
        )


def require_pixels(points: np.ndarray, truth: np.ndarray, what: str) -> None:
    """Coordinates in px of the image."""
    largest = np.nanmax(np.abs(points), initial=0)
    if largest <= 2 < np.nanmax(truth) / 4:
        raise InputError(
            f"{what}: its coordinates are all within {np.nanmin(points):.2g} … {np.nanmax(points):.2g}, so they are "
            "shares of something, not px. Multiply x by the image's width and y by its height (or map them back from "
            "the crop that the method saw), and write px of the whole image."
        )


def require_convention(points: np.ndarray, truth: np.ndarray, normaliser: np.ndarray, scheme: DatasetScheme, what: str):
    """x before y, the dataset's order of landmarks, these faces, and one numbering of pixels.

    points, truth: (N, K, 2) px; only where all K of the dataset are predicted can their mirror order be named.
    """
    own = conventions.nme(points, truth, normaliser)
    mean, median = np.nanmean(own), np.nanmedian(own)
    swapped = np.nanmean(conventions.nme(points[..., ::-1], truth, normaliser))
    if swapped < conventions.CERTAIN * mean:
        raise InputError(
            f"{what}: x and y are swapped: as they are, their NME is {mean:.2f} %, with y first {swapped:.2f} %. "
            "Write x before y (columns of an array image[row, column] are x)."
        )
    if found := conventions.order(points, truth, normaliser):
        places, before, after = found
        moved = [int(k) for k in np.flatnonzero(places != np.arange(len(places)))]
        mirrored = len(places) == scheme.count and (places[moved] == scheme.flip_order()[moved]).all()
        pairs = ", ".join(f"{k} at {places[k]}" for k in moved[:6])
        raise InputError(
            f"{what}: {len(moved)} landmarks are in another order than the dataset's: landmark {pairs}"
            f"{', …' * (len(moved) > 6)}"
            f"{'; they are those that swap in a mirrored image: left and right are exchanged' if mirrored else ''}.\n"
            f"As they are, the error of these landmarks is {before:.2f} %, in that order {after:.2f} %. Write them in "
            f"the order of scheme {scheme.scheme} (params/schemes/{scheme.scheme}.yaml; counted from 0)."
        )
    if median > 100 * conventions.LOST:
        size = np.nanmax(points, initial=0)
        raise InputError(
            f"{what}: the predictions are not on the faces: the median error of a face is {median:.0f} % of the "
            f"normaliser (x and y up to {size:.0f} px). Are they px of a crop or of a resized image (map them back to "
            "the whole image), or predictions on another dataset with the same image names?"
        )
    if conventions.mixture(points, truth, normaliser) > conventions.MIXED:
        raise InputError(
            f"{what}: it seems to mix two numberings of pixels: the faces' offsets from the annotation form two "
            f"clumps, one pixel apart in x and y. As they are, they read NME {mean:.2f} %. Count all pixels from 0, or "
            "all from 1, before they are measured."
        )
