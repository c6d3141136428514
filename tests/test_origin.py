"""The measurement of `source.origin` recovers a known offset of the annotation."""

import numpy as np
import pytest

from tests.bench.origin import offset


@pytest.mark.parametrize("true", [(0.0, 0.0), (0.8, 0.0), (1.5, -1.0)])
def test_an_offset_is_recovered_from_rolled_faces_with_failures_among_them(true):
    rng = np.random.default_rng(3)
    roll = rng.normal(0, 0.2, 400)
    lateral = true[0] * np.cos(roll) + true[1] * np.sin(roll) + rng.normal(0, 0.5, 400)
    lateral[:8] += 200  # faces that the network has failed on
    found, error = offset(lateral, roll)
    assert found == pytest.approx(true, abs=3 * error.max())
    assert error[0] == pytest.approx(0.5 / np.sqrt(392), rel=0.15)
    assert error[1] == pytest.approx(error[0] / 0.2, rel=0.15), "an upright face says little about y"
