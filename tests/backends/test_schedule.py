"""The factor on the learning rate, against values by hand."""

from __future__ import annotations

import pytest

from ipip_ext.backends.schedule import factor
from ipip_ext.recipe.training import Fit


def test_a_cosine_rises_over_the_warm_up_and_ends_at_its_fraction():
    settings = Fit(epochs=1, warmup_steps=4, schedule="cosine", lr_final_fraction=0.2)
    found = [factor(step, 12, settings) for step in range(13)]
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[8] == pytest.approx(0.6)  # half way: the mean of 1 and 0.2
    assert found[12] == pytest.approx(0.2)
    assert factor(99, 12, settings) == pytest.approx(0.2)  # and no further


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_the_others_are_constant_after_it(schedule):
    settings = Fit(epochs=1, warmup_steps=2, schedule=schedule)
    assert [factor(step, 12, settings) for step in (0, 1, 2, 11)] == [0.5, 1.0, 1.0, 1.0]
