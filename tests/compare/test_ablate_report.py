"""The table of an ablation on made-up numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ipip_ext.compare import ablate_report
from ipip_ext.compare.ablate_report import Outcome, Stats
from ipip_ext.report.html.against import ENERGY, FORCE

SPLITS = ("test", "test_id", "test_ood")


def outcomes(points: list[dict[str, str]], seeds: tuple[int, ...]) -> list[Outcome]:
    """Return made-up outcomes, whose numbers depend on variant, seed, model and split."""
    rng = np.random.default_rng(0)
    made = []
    for seed in seeds:
        for point in points:
            rows = [
                {"model": model, "split": split, FORCE: rng.uniform(50, 99), ENERGY: rng.uniform(1, 9)}
                for model in ("ipip", "scratch")
                for split in SPLITS
            ]
            slug = ",".join(f"{key}={value}" for key, value in point.items())
            made.append(Outcome(slug, point, seed, int(point.get("data.n_train", 40)), rows))
    return made


def test_verdicts():
    assert Stats.of(np.array([1.0, 1.2, 0.8])).verdict == "exceeds the spread"
    assert Stats.of(np.array([1.0, -1.2, 0.8])).verdict == "within the spread"
    assert Stats.of(np.array([-1.0, -1.0])).verdict == "exceeds the spread"
    assert Stats.of(np.array([0.0, 0.0])).verdict == "within the spread"
    assert Stats.of(np.array([5.0])).verdict == "one seed: no spread"
    border = np.array([0.0, 2.0])  # mean 1, sd sqrt(2), so sd/sqrt(n) is 1
    assert Stats.of(border) == Stats(1.0, math.sqrt(2), 2)
    assert Stats.of(border + 11.7).verdict == "within the spread"
    assert Stats.of(border + 11.71).verdict == "exceeds the spread"


def test_where_data_vary_too_a_variant_is_set_beside_the_first_with_the_same_data():
    points = [{"data.n_train": n, "label.policy": p} for n in ("20", "40") for p in ("teacher", "self")]
    made = outcomes(points, (0, 1, 2))
    text = ablate_report.table(made)
    pairs = [line.split("  ")[0] for line in text.splitlines() if " - " in line and " F MAE" in line]
    names = [f"data.n_train={n},label.policy={p}" for n in (20, 40) for p in ("teacher", "self")]
    assert list(dict.fromkeys(pairs)) == [
        f"ipip: {names[1]} - {names[0]}", f"ipip: {names[3]} - {names[2]}",
        *(f"{name}: ipip - scratch" for name in names),
    ]  # fmt: skip
    row = {(o.variant, o.seed, r["model"]): r[FORCE] for o in made for r in o.rows if r["split"] == "test_ood"}
    difference = [row[names[3], seed, "ipip"] - row[names[2], seed, "ipip"] for seed in (0, 1, 2)]
    line = next(x for x in text.splitlines() if x.startswith(f"ipip: {names[3]} - {names[2]}") and "test_ood" in x)
    assert f"{np.mean(difference):+.1f}" in line.split()
    assert f"{np.std(difference, ddof=1):.1f}" in line.split()


@pytest.mark.parametrize(("key", "tells"), [("forget.groups", True), ("forget", True), ("finetune.lr", False)])
def test_where_forgetting_varies_the_last_student_stands_beside_the_chosen_one(key, tells):
    made = outcomes([{key: "none"}, {key: "all"}], (0, 1))
    for outcome in made:
        last = [{**row, "model": f"iteration-{i}", FORCE: float(i)} for i in (0, 2, 10) for row in outcome.rows[:3]]
        outcome.rows.extend(last)
    lines = ablate_report.table(made).splitlines()
    assert any(line.split()[1:2] == ["iteration-10"] and " 10.0 +- 0.0 " in line for line in lines) == tells
    assert any(line.startswith(f"iteration-10: {key}=all - {key}=none  test F MAE") for line in lines) == tells
    assert not any("iteration-2" in line for line in lines)
    assert any(line.startswith("iteration-10: the last student") for line in lines) == tells


def test_the_learning_curve_has_a_line_for_each_model_and_choice(tmp_path):
    points = [{"label.policy": p, "data.n_train": n} for p in ("teacher", "self") for n in ("40", "20")]
    made = outcomes(points, (0, 1))
    files, metrics = ablate_report.write(tmp_path, made)
    assert [path.name for path in files] == ["ablate.csv", "ablate.txt", "learning_curve.png"]
    assert all(path.stat().st_size for path in files)
    assert len(metrics) == 4 * 2 * 4 * 2
    lines = (tmp_path / "ablate.txt").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("test F MAE by labels"))
    names = [f"{model}, label.policy={policy}" for model in ("ipip", "scratch") for policy in ("teacher", "self")]
    assert all(name in lines[start] for name in names)
    assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["20", "40"]
    of_first = [row for o in made if o.values == points[1] for row in o.rows]
    values = [row[FORCE] for row in of_first if (row["model"], row["split"]) == ("ipip", "test")]
    assert lines[start + 2].split()[1:4] == [f"{np.mean(values):.1f}", "+-", f"{np.std(values, ddof=1):.1f}"]


def test_curves_from_scratch_that_are_one_stand_once():
    points = [{"label.policy": p, "data.n_train": n} for p in ("teacher", "self") for n in ("20", "40")]
    made = outcomes(points, (0,))
    for outcome in made:
        for row in outcome.rows:
            row[FORCE] = 1000.0 / outcome.n_train if row["model"] == "scratch" else row[FORCE]
    head = next(line for line in ablate_report.table(made).splitlines() if line.startswith("test F MAE by labels"))
    assert head.split("  ")[1:] == ["ipip, label.policy=teacher", "ipip, label.policy=self", "scratch"]
