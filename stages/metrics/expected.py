"""How well a method knows its own errors: the expected error of a landmark against the error that it has."""

from collections.abc import Mapping, Sequence

import numpy as np

BINS = 10


def expected_errors(
    expected: np.ndarray, errors: np.ndarray, bound: float, groups: Mapping[str, Sequence[int]]
) -> dict | None:
    """expected, errors: (N, K) percent of the normaliser, NaN or ∞ where there is none; groups: columns of them.

    bins: the landmarks by their expected error, in tenths: its mean and the mean of the errors. covered: the share of
    errors that are below `bound` times the expected one, of all and of each group. None where nothing is expected.
    """
    known = np.isfinite(expected) & np.isfinite(errors)
    if not known.any():
        return None
    each, error = expected[known], errors[known]
    parts = np.array_split(np.argsort(each, kind="stable"), BINS)
    below = np.where(known, errors <= bound * expected, np.nan)
    return {
        "bins": [
            {"n": len(part), "expected": float(each[part].mean()), "error": float(error[part].mean())}
            for part in parts if len(part)
        ],
        "covered": float(np.nanmean(below)),
        "groups": {
            name: float(np.nanmean(below[:, columns]))
            for name, columns in groups.items() if known[:, columns].any()
        },
    }  # fmt: skip
