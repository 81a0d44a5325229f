"""The report as a page and as LaTeX: the numbers are the table's, strangers are text."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from alloy import cell, label
from evaluated import evaluated
from webpage import opened

from ipip_ext.data import frames as fr
from ipip_ext.data.tables import write_csv
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.data import Ood
from ipip_ext.report.html.against import ENERGY, FORCE
from ipip_ext.report.shown import Asked, Shown, ShownModel, Speed, Sureness, Walks
from ipip_ext.run.events import EventBus
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.report import report

EVIL = '<script>alert("1")</script>'


# ---------------------------------------------------------------- a real run


@pytest.mark.slow
def test_the_page_of_a_real_run_says_what_its_table_says(finished_run):
    run = finished_run / "runs/tiny"
    page = opened(run / "report.html")
    rows = [row for row in csv.DictReader((run / "compare.csv").open()) if row["split"] == "test"]
    shown = {
        line[0]: line for line in page.cells if line and line[0] in {row["model"] for row in rows} and len(line) > 9
    }
    for row in rows:
        told = shown[row["model"]]
        assert told[1] == f"{float(row[FORCE]):.0f}"
        assert f"{float(row[ENERGY]):.1f}" in told
        assert f"{float(row['md_step_ms']):.1f}" in told
    student = next(row for row in rows if row["role"] == "ipip")
    assert f"force error on the test frames is {float(student[FORCE]):.0f} meV/Å" in page.text
    for title in ("The table", "Accuracy against speed", "Parity", "Error over iterations", "The worst frames",
                  "Errors by element, temperature and start", "Where the time went", "Provenance"):  # fmt: skip
        assert title in page.words
    assert "MD stability" not in page.words  # was not asked for
    prepared = json.loads((run / "prepare/stage.json").read_text())
    assert prepared["fingerprint"]["inputs"]["test"].removeprefix("sha256:") in page.text
    assert prepared["versions"]["torch"] in page.text
    assert "hidden_irreps: 4x0e+4x1o" in page.text
    source = (run / "report.html").read_text()
    assert str(finished_run) not in source
    assert "sqlite:" not in source
    n_worst = 6
    assert len(page.images()) == 1 + 1 + 1 + 1 + 2 + n_worst  # pareto, 2 parities, iterations, 2 parts, frames
    best = json.loads((run / "model/stage.json").read_text())["values"]["iteration"]
    worst = csv.DictReader((run / f"iter-{best:02d}/evaluate/per_frame.csv").open())
    ranked = [r["frame_id"] for r in sorted(worst, key=lambda r: -float(r[FORCE]))]
    assert [line[0] for line in page.cells if line and line[0] in ranked] == ranked[:n_worst]

    told = (run / "compare.txt").read_text().splitlines()
    tex = (run / "compare.tex").read_text()
    body = tex[tex.index(r"\midrule") : tex.index(r"\bottomrule")].splitlines()[1:]
    assert len(body) == len(rows)
    for line, row in zip(body, told[2:], strict=False):
        plain = line.removesuffix(r" \\").replace("--", "-").replace("\\", "")
        assert " ".join(plain.split(" & ")).split() == row.split()


# ---------------------------------------------------------------- everything at once, with names of strangers


def off_by(frames: list, amplitude: float, seed: int) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    return [
        Prediction(
            f.info[fr.ENERGY] + amplitude * rng.normal(), f.arrays[fr.FORCES] + amplitude * rng.normal(size=(len(f), 3))
        )
        for f in frames
    ]


AMPLITUDES = {"ipip": 0.1, f"$x {EVIL}": 0.5, "_same & 100%": 0.1, "iteration-0": 0.1}


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Done:
    """A report in which all was measured, of models and starts with names that mean something to HTML or matplotlib."""
    folder = tmp_path_factory.mktemp("report")
    frames = [
        label(cell(i, 0.2), start=EVIL if i % 2 else "a & $b", temperature_K=300.0 + 300 * (i % 3), frame_id=f"<b>{i}")
        for i in range(12)
    ]
    fr.write_frames(folder / "test.extxyz", frames)
    frames = fr.read_frames(folder / "test.extxyz")
    scores, models, curves = {}, {}, {}
    for index, (name, amplitude) in enumerate(AMPLITUDES.items()):
        at = folder / f"m{index}"
        said = off_by(frames, amplitude, index)
        if name == "ipip":
            said[7].forces_eV_per_A[2] += 0.6  # the worst frame
        scores[name] = evaluated(at, frames, said)
        write_csv(at / "walks.csv", [{"replica": f"r{i}", "start": EVIL, "temperature_K": 300 * (1 + i % 2),
                                      "time_ps": 1, "reason": "force" if i < index else ""}
                                     for i in range(4)])  # fmt: skip
        write_csv(at / "strain.csv", [{"start": EVIL, "strain": s, "energy_meV_per_atom": s * s * 1e3,
                                       "label_meV_per_atom": s * s * 900} for s in (-0.02, 0, 0.02)])  # fmt: skip
        write_csv(at / "energy.csv", [{"walk": "w", "time_ps": t, "energy_meV_per_atom": t * index} for t in range(5)])
        write_csv(at / "rdf.csv", [{"walk": "w", "pair": p, "r_A": r, "g": r * index} for p in ("Al-Cu", "Cu-Cu")
                                   for r in range(5)])  # fmt: skip
        write_csv(at / "vdos.csv", [])
        curves[name] = {kind: at / f"{kind}.csv" for kind in ("strain", "energy", "rdf", "vdos")}
        role = "ipip" if name == "ipip" else "iteration" if name.startswith("iter") else "baseline"
        models[name] = ShownModel(
            role=role, stage=f"m{index}", n_frames={"test": 12, "test_id": 6, "test_ood": 6},
            n_parameters=100, aligned=False, panel=name, cost={}, properties={"rdf_distance": 0.1 * index},
            curves=curves[name] if role != "iteration" else {},
            stability=Walks({"md_sane_share": 1 - index / 4}, 4, 1.0, at / "walks.csv"),
        )  # fmt: skip
    curve = [{"spread_meV_per_A": s, "error_meV_per_A": 2 * s} for s in (1.0, 5.0, 20.0)]
    told = {
        "n_atoms": 48,
        "error_per_expected": 1.3,
        "rank_correlation": 0.7,
        "within_1x": 0.6,
        "within_2x": 0.9,
        "curve": curve,
    }
    (folder / "valid.json").write_text(json.dumps({"curve": curve, "error_per_spread": 2.0}))
    (folder / "told.json").write_text(json.dumps({"test": told}))
    speed = {name: 10.0 * (1 + i) for i, name in enumerate(AMPLITUDES)}
    return Workspace(folder / "run", EventBus([])).do(
        report, shown=Shown(models=models, scores=scores,
        exam=Asked(folder / "test.extxyz", Ood(key="start", values=(EVIL,)), {}, (), 1),
        speed=Speed(speed, {}, 4, "Cu3Al", [
            {"model": name, "supercell": "1x1x1", "n_atoms": 4, "md_step_ms": ms, "peak_memory_MiB": None}
            for name, ms in speed.items()]),
        calibration=Sureness(EVIL, folder / "valid.json", folder / "told.json"),
        times=[{"stage": EVIL, "how": "here", "n_stages": 1, "wall_s": 3.0, "share": 1.0}],
        reference={"walks": EVIL, "strain": "the labels"}, reference_curves=curves["ipip"],
        about={"name": EVIL, "seed": 1, "recipe": {"name": EVIL}, "data_sha256": {"test": "00ff"}, "n_train": 1,
               "n_valid": 2, "versions": {"ipip-mace": EVIL}, "hardware": {"processor": EVIL}}),
    )  # fmt: skip


def test_names_of_strangers_are_text(everything):
    source = everything.page.read_text()
    assert "<script" not in source.lower()
    assert "<b>7" not in source
    page = opened(everything.page)
    assert page.text.count(EVIL) > 10
    assert len(page.images()) > 12
    svgs = [image for image in page.images() if not image.startswith(b"\x89PNG")]
    assert not any(b"<script" in image for image in svgs)
    assert any(b"&lt;script&gt;" in image for image in svgs)
    assert any(b"$x" in image for image in svgs)  # no formula was made of it
    tex = everything.latex.read_text()
    assert r"\_same \& 100\%" in tex
    assert r"\$x \textless{}script\textgreater{}" in tex


def test_every_section_is_there_with_its_numbers(everything):
    page = opened(everything.page)
    for title in ("MD stability", "Properties", "Calibration of the committee", "Parity", "The worst frames"):
        assert title in page.words
    assert ["ipip", "4 of 4", "1.00", "-", ""] in page.cells
    assert ["iteration-0", "1 of 4", "1.00", "force 3", ""] in page.cells
    frames = [line for line in page.cells if line and line[0].startswith("<b>")]
    assert frames[0][0] == "<b>7"
    assert frames[0][2] == EVIL
    assert len(frames) == 6
    assert ["300", "4"] in [line[:2] for line in page.cells]  # by temperature
    assert "Energy under strain" in page.text
    assert "Vibrational density of states" not in page.text  # nobody has one


def test_the_verdict_tells_what_is_better_and_what_is_chance(everything):
    page = opened(everything.page)
    rows = {(r["model"], r["split"]): float(r[FORCE]) for r in csv.DictReader(everything.csv.open())}
    worse = f"$x {EVIL}"
    change = rows["ipip", "test"] / rows[worse, "test"] - 1
    first = next(words for words in page.words if words.startswith("The student's force error"))
    assert f"is {rows['ipip', 'test']:.0f} meV/Å: {-change * 100:.0f} % below {worse}'s" in first
    assert f"Beside {worse}: force error {-change * 100:.0f} % below, " in page.text
    assert "Beside _same & 100%: force error not clearly different (" in page.text
    assert f"2.0 times faster than {worse} (20.0 ms); 3.0 times faster than _same & 100% (30.0 ms)" in page.text
    assert "MD that ended sanely: ipip 100%" in page.text
    assert any("bootstrap over frames of the test set" in words for words in page.words)
