"""The report as a page and as LaTeX, and several runs side by side: the numbers are the table's, strangers are text."""

from __future__ import annotations

import base64
import csv
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import cell, label
from click.testing import CliRunner

from ipip_ext.cli.main import main
from ipip_ext.compare.finished import read
from ipip_ext.compare.runs import Comparison
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.data.tables import latex, write_csv
from ipip_ext.errors import WorkspaceError
from ipip_ext.measure.breakdown import Exam
from ipip_ext.potentials.base import Prediction
from ipip_ext.report.html.against import Against, against
from ipip_ext.report.html.verdict import headline, sentences
from ipip_ext.run.events import EventBus
from ipip_ext.run.workspace import Done, Workspace
from ipip_ext.stages.report import report

EVIL = '<script>alert("1")</script>'
FORCE, ENERGY = "force_mae_meV_per_A", "energy_mae_meV_per_atom"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page taken apart; fails where its tags don't match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open or not self.open:
            return
        self.words.append(data)
        if self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def images(self) -> list[bytes]:
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                assert attributes["alt"]
                kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", attributes["src"]).groups()
                found.append(base64.b64decode(data, validate=True))
                if kind == "png":
                    assert found[-1].startswith(b"\x89PNG")
                else:
                    ET.fromstring(found[-1])  # noqa: S314 - our own
        return found


def opened(path: Path) -> Page:
    """Read a page and check that it needs nothing but itself."""
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in {"src", "href", "srcset", "action"} & attributes.keys():
            assert attributes[name].startswith(("#", "data:image/"))
    assert "@import" not in source
    assert "url(" not in source
    assert "default-src 'none'" in source
    return page


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


def evaluated(folder: Path, frames: list, said: list[Prediction]) -> dict[str, Path]:
    """Write what `evaluate` writes of it."""
    folder.mkdir(parents=True)
    rows = [
        {
            "frame_id": f.info[fr.ID], "split": "test", "n_atoms": len(f), "reference_energy_eV": f.info[fr.ENERGY],
            "predicted_energy_eV": p.energy_eV, **metrics.errors([f], [p]),
        }
        for f, p in zip(frames, said, strict=True)
    ]  # fmt: skip
    write_csv(folder / "per_frame.csv", rows)
    residuals = metrics.Residuals.of(frames, said)
    np.savez(
        folder / "forces.npz", predicted=residuals.predicted_eV_per_A, reference=residuals.reference_eV_per_A
    )  # fmt: skip
    return {"per_frame": folder / "per_frame.csv", "forces": folder / "forces.npz"}


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
        models[name] = {
            "role": role, "stage": f"m{index}", "n_frames": {"test": 12, "test_id": 6, "test_ood": 6},
            "n_parameters": 100, "aligned": False, "panel": name, "cost": {},
            "properties": {"rdf_distance": 0.1 * index},
            "curves": curves[name] if role != "iteration" else {},
            "stability": {"shares": {"md_sane_share": 1 - index / 4}, "n_walks": 4, "time_ps": 1.0,
                          "walks": at / "walks.csv"},
        }  # fmt: skip
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
        report, models=models, scores=scores,
        exam={"test": folder / "test.extxyz", "ood": {"key": "start", "values": [EVIL]}, "partial": {},
              "split_keys": [], "seed": 1},
        speed={"md_step_ms": speed, "peak_memory_MiB": {}, "n_atoms": 4, "formula": "Cu3Al", "rows": [
            {"model": name, "supercell": "1x1x1", "n_atoms": 4, "md_step_ms": ms, "peak_memory_MiB": None}
            for name, ms in speed.items()]},
        calibration={"at": EVIL, "valid": folder / "valid.json", "test": folder / "told.json"},
        times=[{"stage": EVIL, "how": "here", "n_stages": 1, "wall_s": 3.0, "share": 1.0}],
        reference={"walks": EVIL, "strain": "the labels"}, reference_curves=curves["ipip"],
        about={"name": EVIL, "seed": 1, "recipe": {"name": EVIL}, "data_sha256": {"test": "00ff"}, "n_train": 1,
               "n_valid": 2, "versions": {"ipip-mace": EVIL}, "hardware": {"processor": EVIL}},
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
    assert f"is {rows['ipip', 'test']:.0f} meV/Å: below {worse}'s {rows[worse, 'test']:.0f}" in first
    assert f"(−{-change * 100:.0f} %)" in first
    assert "; not clearly different from _same & 100%'s" in first
    assert f"2.0 times faster than {worse} (20.0 ms); 3.0 times faster than _same & 100% (30.0 ms)" in page.text
    assert "MD that ended sanely: ipip 100%" in page.text
    assert any("bootstrap over frames of the test set" in words for words in page.words)


def test_the_verdict_is_honest_when_the_student_loses():
    lost = Against("teacher", "test", FORCE, 300.0, 200.0, 0.3, 0.7)
    even = Against("scratch", "test", FORCE, 300.0, 310.0, -0.2, 0.1)
    said = headline([lost, even], 300.0)
    assert said == (
        "The student's force error on the test frames is 300 meV/Å: above teacher's 200 (+50 %);"
        " not clearly different from scratch's 310 (−3 %)."
    )
    assert "no baseline" in headline([], 300.0)
    partial = Against("rebo", "test_Mo_S", FORCE, 90.0, 100.0, -0.2, -0.05)
    assert headline([partial], 300.0).endswith("is 300 meV/Å: below rebo's 100 on test_Mo_S (−10 %).")
    rows = [
        {"model": "ipip", "role": "ipip", "split": "test", "n_frames": 9, "md_step_ms": 30.0},
        {"model": "teacher", "role": "baseline", "split": "test", "n_frames": 9, "md_step_ms": 10.0},
        {"model": "scratch", "role": "baseline", "split": "test", "n_frames": 9, "md_step_ms": 31.0},
    ]
    (speed,) = sentences([lost, even], rows, {})
    assert speed == "The student's MD step takes 30.0 ms; 3.0 times slower than teacher (10.0 ms)."
    single = Against("other", "test", FORCE, 100.0, 200.0, None, None)
    assert "not clearly different from other's 200 (−50 %)" in headline([single], 100.0)
    tiny = Against("twin", "test", FORCE, 100.1, 100.0, 0.0005, 0.0015)
    assert "not clearly different from twin's 100 (0 %)" in headline([tiny], 100.1)
    far = Against("exact", "test", ENERGY, 900.0, 100.0, 7.5, 8.5)
    assert (far.clause, far.said) == ("9.0 times exact's 100.0", "9.0 times [8.5 times, 9.5 times]")
    exact = Against("exact", "test", FORCE, 1.0, 0.0, None, None)
    assert (exact.change, exact.said, exact.outcome) == (math.inf, "has no error", "bad")


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
        made[name] = (files["per_frame"], files["forces"])
    exam = Exam(frames, (), "start", 1)
    found = against(exam, made["student"], {"other": made["other"]}, {"other": {"test": [f"f{i}" for i in range(30)]}})
    for one in found:
        assert one.change == pytest.approx(1 / 1.1 - 1, abs=1e-4)
        assert (one.low, one.high) == pytest.approx((1 / 1.1 - 1, 1 / 1.1 - 1), abs=1e-3)
        assert one.outcome == "good"
    assert found[0].student == pytest.approx(1e3 * size.mean(), rel=1e-4)


def test_latex_shows_every_sign():
    lines = [["model", "F", "interval"], ["a_b & <c>^~\\", "1.5 +- 0.2", "187-322"], ["d", "-", "-0.3"]]
    body = latex(lines, 1, ["a\nnote"]).splitlines()
    assert body[1] == "% a note"
    assert body[2] == r"\begin{tabular}{lrr}"
    name = r"a\_b \& \textless{}c\textgreater{}\textasciicircum{}\textasciitilde{}\textbackslash{}"
    assert body[6] == rf"{name} & 1.5 $\pm$ 0.2 & 187--322 \\"
    assert body[7] == r"d & -- & -0.3 \\"


# ---------------------------------------------------------------- several runs


def finished(folder: Path, force: dict[str, float], *, test: str = "aa", n_train: int = 40, **recipe: object) -> Path:
    """Write of a finished run what a comparison reads. force: F MAE on test by model; energies are a tenth of it."""
    (folder / "prepare").mkdir(parents=True)
    given = {key: f"sha256:{value}" for key, value in {"train": "tt", "test": test, "starts": "ss"}.items()}
    (folder / "prepare/stage.json").write_text(
        json.dumps({
            "stage": "prepare", "outputs": {}, "values": {"n_train": n_train, "n_valid": 10},
            "fingerprint": {"inputs": {**given, "valid": None}}, "versions": {"torch": "2.x"}, "hardware": {},
        })
    )  # fmt: skip
    data = {
        "train": f"/{folder.name}/train.extxyz",
        "test": "/t.extxyz",
        "n_train": n_train,
        "energy_key": "E",
        "ood": None,
    }
    flat = {"name": folder.name, "seed": 0, "explore": {"starts": "/s.extxyz"}, **recipe, "data": data}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(flat))
    roles = {"ipip": "ipip", "iteration-0": "iteration"}
    rows = [
        {"model": model, "role": roles.get(model, "baseline"), "split": split, "n_frames": 48, FORCE: value * factor,
         "force_rmse_meV_per_A": value, ENERGY: value / 10, "md_step_ms": 10.0, "n_parameters": 7,
         "n_reference_labels": "" if model == "teacher" else n_train + 10}
        for model, value in force.items() for split, factor in (("test", 1), ("test_ood", 2))
    ]  # fmt: skip
    write_csv(folder / "compare.csv", rows)
    (folder / "compare.txt").write_text(f"table of {folder.name}\n")
    return folder


def compared(*folders: object) -> str:
    done = CliRunner().invoke(main, ["compare", *map(str, folders)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_runs_with_other_seeds_are_averaged(tmp_path):
    forces = [100.0, 110.0, 120.0]
    runs = [
        finished(tmp_path / f"x-s{i}", {"ipip": f, "scratch": 2 * f, "iteration-0": 1.0}, seed=i)
        for i, f in enumerate(forces)
    ]
    text = compared(*runs)
    assert "Test frames: the same file in all runs (sha256:aa): 48 in test" in text
    assert "NOT COMPARABLE" not in text
    assert "iteration-0" not in text
    (mean,) = [line for line in text.splitlines() if re.match(r"x-s +ipip", line)]
    assert re.split(" {2,}", mean)[2:5] == ["0, 1, 2", "110 +- 10", "220 +- 20"]
    assert "11.0 +- 1.0" in mean
    assert compared(runs[0]) == f"{runs[0]}\ntable of x-s0\n\n"
    other = finished(tmp_path / "y", {"ipip": 50.0}, seed=0, finetune={"lr": 0.5})
    text = compared(*runs[:2], other)
    assert re.search(r"finetune.lr +- +0.5", text)
    assert "105 +- 7" in text
    assert "data.train" not in text  # the same content in another folder


def test_other_test_frames_are_said_first(tmp_path):
    runs = [finished(tmp_path / "a", {"ipip": 1.0}), finished(tmp_path / "b", {"ipip": 2.0}, test="bb")]
    text = compared(*runs, "--html", tmp_path / "page.html")
    assert text.startswith("NOT COMPARABLE: the runs have different test frames (a: sha256:aa; b: sha256:bb).")
    assert "the same file" not in text
    assert "NOT COMPARABLE" in opened(tmp_path / "page.html").text


def test_a_learning_curve_goes_along_the_labels(tmp_path):
    runs = [
        finished(
            tmp_path / f"n{n}-{seed}", {"ipip": 1e3 / n + seed, "scratch": 2e3 / n + seed, "teacher": 5.0},
            n_train=n, seed=seed,
        )
        for n in (10, 40) for seed in (0, 2)
    ]  # fmt: skip
    found = Comparison(read(runs))
    curve = found.curves()["test"]
    assert set(curve) == {"ipip", "scratch"}
    assert curve["ipip"] == [(20.0, 101.0, pytest.approx(2**0.5)), (50.0, 26.0, pytest.approx(2**0.5))]
    assert re.search(r"\n +50 +26.0 \+- 1.4 +51.0 \+- 1.4", str(found))
    found.write_html(tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    assert "Learning curves" in page.words
    assert len(page.images()) == 2
    assert not Comparison(read(runs[:2])).curves()  # one number of labels
    split_by = [finished(tmp_path / f"o{n}", {"ipip": 9.0}, n_train=n, finetune={"lr": n}) for n in (10, 40)]
    assert not Comparison(read(split_by)).curves()  # something else differs too, so no line joins them


def test_a_grid_stands_for_its_finished_runs(tmp_path):
    grid = tmp_path / "x-ablate"
    for lr in (1, 2):
        finished(grid / f"lr={lr}" / "seed-0", {"ipip": 10.0 * lr}, finetune={"lr": lr})
    (grid / "lr=3/seed-0").mkdir(parents=True)
    (grid / "ablate.yaml").write_text("")
    assert [run.name for run in read([grid, grid / "lr=1/seed-0"])] == ["lr=1/seed-0", "lr=2/seed-0"]
    for path in grid.glob("*/*/compare.csv"):
        path.unlink()
    with pytest.raises(WorkspaceError, match="none of its runs is finished"):
        read([grid])


def test_broken_runs_are_named(tmp_path):
    run = finished(tmp_path / "a", {"ipip": 1.0})
    good = finished(tmp_path / "b", {"ipip": 1.0})
    for name, text in (("compare.csv", "model\nipip\n"), ("recipe.yaml", "{"), ("recipe.yaml", "- 1")):
        kept = (run / name).read_text()
        (run / name).write_text(text)
        with pytest.raises(WorkspaceError, match="is corrupt"):
            read([good, run])
        (run / name).write_text(kept)
    with pytest.raises(WorkspaceError, match="can't be written"):
        Comparison(read([good, run])).write_html(tmp_path / "nowhere/page.html")
