"""The verdict: honest words, and intervals from the same frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from alloy import cell, label
from evaluated import evaluated

from ipip_ext.data import frames as fr
from ipip_ext.measure.breakdown import Examined
from ipip_ext.potentials.base import Prediction
from ipip_ext.report.html.against import ENERGY, FORCE, Against, against
from ipip_ext.report.html.verdict import chiefs, headline, lines, sentences


def test_the_verdict_is_honest_when_the_student_loses():
    lost = Against("teacher", "test", FORCE, 300.0, 200.0, 0.3, 0.7)
    even = Against("scratch", "test", FORCE, 300.0, 310.0, -0.2, 0.1)
    said = headline([lost, even], 300.0)
    assert said == "The student's force error on the test frames is 300 meV/Å: 50 % above teacher's 200."
    assert "no baseline" in headline([], 300.0)
    partial = Against("rebo", "test_Mo_S", FORCE, 90.0, 100.0, -0.2, -0.05)
    assert headline([partial], 300.0).endswith("is 300 meV/Å: on test_Mo_S 10 % below rebo's 100.")
    rows = [
        {"model": "ipip", "role": "ipip", "split": "test", "n_frames": 9, "md_step_ms": 30.0},
        {"model": "teacher", "role": "baseline", "split": "test", "n_frames": 9, "md_step_ms": 10.0},
        {"model": "scratch", "role": "baseline", "split": "test", "n_frames": 9, "md_step_ms": 31.0},
    ]
    assert sentences([lost, even], rows, {}) == [
        "Beside teacher: force error 50 % above.",
        "Beside scratch: force error not clearly different (−3 %).",
        "The student's MD step takes 30.0 ms; 3.0 times slower than teacher (10.0 ms).",
    ]
    single = Against("other", "test", FORCE, 100.0, 200.0, None, None)
    assert "not clearly different from other's 200 (−50 %, no interval)" in headline([single], 100.0)
    tiny = Against("twin", "test", FORCE, 100.1, 100.0, 0.0005, 0.0015)
    assert "not clearly different from twin's 100 (0 %, nothing)" in headline([tiny], 100.1)
    assert (tiny.brief, single.brief) == ("not clearly different (0 %)", "not clearly different (−50 %)")
    far = Against("exact", "test", ENERGY, 900.0, 100.0, 7.5, 8.5)
    assert far.brief == "9.0 times as large"
    assert (far.clause, far.said) == ("9.0 times exact's 100.0", "9.0 times [8.5 times, 9.5 times]")
    exact = Against("exact", "test", FORCE, 1.0, 0.0, None, None)
    assert (exact.change, exact.said, exact.outcome) == (math.inf, "has no error", "bad")


def test_of_many_models_two_are_told_of_and_of_the_others_who_is_not_behind():
    rows = [{"model": "ipip", "role": "ipip", "split": "test", "md_step_ms": 30.0}]
    found = []
    for name, change in (("a", -0.5), ("b", 0.2), ("scratch", -0.4), ("c", 0.0), ("teacher (x)", -0.3), ("d", -0.1)):
        for split in ("test", "test_id", "test_ood"):
            ends = (change - 0.05, change + 0.05)
            found += [Against(name, split, column, 100.0, 100.0 / (1 + change), *ends) for column in (FORCE, ENERGY)]
        rows.append({"model": name, "role": "baseline", "split": "test", "md_step_ms": 10.0 if name == "a" else 90.0})
    assert chiefs(["a", "scratch", "teacher (x)"]) == ["teacher (x)", "scratch"]
    assert headline(found, 100.0).endswith("is 100 meV/Å: 30 % below teacher (x)'s 143.")
    assert sentences(found, rows, {}) == [
        "Beside teacher (x): force error 30 % below, 30 % below in distribution, 30 % below out of distribution; energy"
        " error 30 % below.",
        "Beside scratch: force error 40 % below, 40 % below in distribution, 40 % below out of distribution; energy"
        " error 40 % below.",
        "Of 4 other baselines 2 clearly err more in forces; not clearly different: c; clearly better than the student:"
        " b.",
        "The student's MD step takes 30.0 ms; 3.0 times faster than teacher (x) (90.0 ms); 3.0 times faster than"
        " scratch (90.0 ms); faster than the student are a.",
    ]
    told, marks = lines(found, ENERGY)
    assert told[0] == ["student's energy error relative to", "test", "test_id", "test_ood"]
    assert told[2] == ["b", *["+20 % [+15, +25]"] * 3]
    assert {marks[1, i] for i in (1, 2, 3)} == {"bad"}


def test_pairs_are_drawn_on_the_same_frames(tmp_path):
    """Errors that scatter between frames by far more than the models differ: only pairing can tell them apart."""
    rng = np.random.default_rng(0)
    frames = [label(cell(i), frame_id=f"f{i}") for i in range(30)]
    size = rng.lognormal(0, 1.0, 30)
    made = {}
    for name, factor in (("student", 1.0), ("other", 1.1)):
        said = [
            Prediction(f.info[fr.ENERGY] + factor * s, f.arrays[fr.FORCES] + factor * s)
            for f, s in zip(frames, size, strict=True)
        ]
        files = evaluated(tmp_path / name, frames, said)
        made[name] = (files.per_frame, files.forces)
    exam = Examined(frames, (), "start", 1)
    found = against(exam, made["student"], {"other": made["other"]}, {"other": {"test": range(30)}})
    for one in found:
        assert one.change == pytest.approx(1 / 1.1 - 1, abs=1e-4)
        assert (one.low, one.high) == pytest.approx((1 / 1.1 - 1, 1 / 1.1 - 1), abs=1e-3)
        assert one.outcome == "good"
    assert found[0].student == pytest.approx(1e3 * size.mean(), rel=1e-4)
