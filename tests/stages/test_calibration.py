"""Expected errors on frames that calibrated nothing: told right where the truth is known, and in a run's report."""

from __future__ import annotations

import numpy as np
import pytest
from alloy import cell, label

from ipip_ext.backends.committee import Opinion
from ipip_ext.data import frames as fr
from ipip_ext.potentials.base import Prediction
from ipip_ext.report import plots
from ipip_ext.stages.calibration import check


def opinions_with(error_per_spread: float, n_frames: int = 300) -> tuple[list[Opinion], list]:
    """Return opinions whose errors are Gaussian, `error_per_spread` times as wide as the spread, and their frames."""
    rng = np.random.default_rng(0)
    reference = label(cell(0))
    opinions = []
    for _ in range(n_frames):
        spread = rng.uniform(0.02, 0.5, len(reference))
        error = rng.normal(size=(len(reference), 3)) * error_per_spread * spread[:, None]
        opinions.append(Opinion(Prediction(0.0, reference.arrays[fr.FORCES] + error), 0.0, spread))
    return opinions, [reference] * n_frames


def test_a_calibration_that_holds_covers_what_a_gaussian_does():
    told = check(*opinions_with(2.0), error_per_spread=2.0)
    assert told["n_atoms"] == 1200
    assert told["error_per_expected"] == pytest.approx(1.0, rel=0.05)
    assert told["within_1x"] == pytest.approx(0.683, abs=0.02)
    assert told["within_2x"] == pytest.approx(0.954, abs=0.02)
    assert told["rank_correlation"] > 0.5
    assert len(told["curve"]) == 8


def test_a_committee_that_is_too_sure_is_told_of():
    told = check(*opinions_with(4.0), error_per_spread=2.0)
    assert told["error_per_expected"] == pytest.approx(2.0, rel=0.05)
    assert told["within_1x"] == pytest.approx(0.383, abs=0.02)
    assert told["within_2x"] == pytest.approx(0.683, abs=0.02)


def test_members_that_agree_where_they_are_right_divide_by_no_zero():
    reference = label(cell(0))
    opinion = Opinion(Prediction(0.0, reference.arrays[fr.FORCES]), 0.0, np.zeros(len(reference)))
    assert check([opinion], [reference], error_per_spread=0.0)["error_per_expected"] == 0.0


@pytest.mark.parametrize("spreads", [(10.0, 20.0), (1.0, 500.0), (0.0, 3.0), (0.0, 0.0)])
def test_the_curve_can_be_drawn(tmp_path, spreads):
    curve = [{"spread_meV_per_A": spread, "error_meV_per_A": 2 * spread} for spread in spreads]
    plots.calibration(tmp_path / "calibration.png", {"valid": curve, "test_ood": curve[:1]}, 2.0)
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
