"""Sections of a run's report, each from what the report stage has in hand; empty where nothing was measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ipip_ext.data.tables import Table, read_csv
from ipip_ext.measure import timing
from ipip_ext.report.html import figures
from ipip_ext.report.html.against import FORCE
from ipip_ext.report.html.figures import Line, Panel, Point
from ipip_ext.report.html.parts import Html, bars, element, folded, join, notes, paragraph, picture, table, text
from ipip_ext.report.shown import Walks

Rows = Sequence[Mapping[str, Any]]
NOTHING = Html("")

_MOST_PANELS, _MOST_VALUES = 6, 24


def tables(found: Sequence[Table]) -> Html:
    """Return tables with their notes."""
    return join(*(join(table(one.lines, one.left), notes([n for n in one.notes if n])) for one in found))


def pareto(rows: Rows, said: str) -> Html:
    """Return error against speed. said: how speed was measured."""
    splits: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        if row["md_step_ms"] is not None and row.get(FORCE) is not None:
            splits[row["split"]].append(Point(row["model"], row["role"], row["md_step_ms"], row[FORCE]))
    if not splits:
        return NOTHING
    caption = f"Down and to the left is better; the line joins the models that no other beats in both. {said}"
    return picture(figures.pareto(splits), "force error against the time of an MD step", caption)


def energy_parity(per_frame: Mapping[str, Path]) -> Html:
    """Return predicted against reference energies. per_frame: of the models' evaluations."""
    pairs = {}
    for name, path in per_frame.items():
        rows = [row for row in read_csv(path) if row["reference_energy_eV"]]
        if not rows:
            return NOTHING
        pairs[name] = (
            [float(row["reference_energy_eV"]) / int(row["n_atoms"]) for row in rows],
            [float(row["predicted_energy_eV"]) / int(row["n_atoms"]) for row in rows],
        )
    return picture(
        figures.energy_parity(pairs), "predicted against reference energies", "Energies, a dot for each frame."
    )


def parts(rows: Rows, models: Sequence[str]) -> Html:
    """Return force errors by element, temperature and start. rows: of breakdown.csv; models: the student first."""
    (split, *_) = dict.fromkeys(row["split"] for row in rows)
    drawings, tables_ = [], []
    for by in dict.fromkeys(row["by"] for row in rows if row["by"] != "all"):
        here = [row for row in rows if (row["split"], row["by"]) == (split, by) and row.get(FORCE) is not None]
        mine = [row for row in here if row["model"] in models]
        errors: dict[str, dict[str, float]] = {name: {} for name in models}
        counts: dict[str, int] = {}
        for row in mine:
            errors[row["model"]][str(row["value"])] = row[FORCE]
            counts[str(row["value"])] = max(row["n_frames"], counts.get(str(row["value"]), 0))
        errors = {name: some for name, some in errors.items() if some}
        if not errors:
            continue
        if len(counts) <= _MOST_VALUES:
            drawn = figures.dots(f"{split}, by {by}", errors, "force MAE (meV/Å)")
            drawings.append(picture(drawn, f"force error by {by}"))
        lines = [
            [value, str(count), *(f"{some[value]:.0f}" if value in some else "-" for some in errors.values())]
            for value, count in counts.items()
        ]
        tables_.append(folded(f"The numbers, by {by}", table([[by, "frames", *errors], *lines])))
    return join(element("div", *drawings, class_="frames"), *tables_)


def stability(walks: Mapping[str, Walks]) -> Html:
    """Return how MD went, by model."""
    if not walks:
        return NOTHING
    head = ["model", "sane", "mean time (ps)", "stopped by"]
    lines, shares = [head], []
    by_temperature: dict[str, Line] = {}
    for name, found in walks.items():
        rows = read_csv(found.walks)
        reasons = Counter(row["reason"] for row in rows if row["reason"])
        n_sane, mean_ps = len(rows) - sum(reasons.values()), sum(float(row["time_ps"]) for row in rows) / len(rows)
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "-"
        lines.append([name, f"{n_sane} of {len(rows)}", f"{mean_ps:.2f}", why])
        shares.append(n_sane / len(rows))
        temperatures = sorted({float(row["temperature_K"]) for row in rows})
        here = [[not r["reason"] for r in rows if float(r["temperature_K"]) == t] for t in temperatures]
        by_temperature[name] = (temperatures, [100 * sum(some) / len(some) for some in here])
    time_ps = next(iter(walks.values())).time_ps
    panel = Panel("", "temperature (K)", "walks that ended sanely (%)", by_temperature, marked=True)
    said = f"Langevin MD of {time_ps:g} ps, the same starts and random numbers for each model; the guard stops a walk."
    return join(
        paragraph(said, "note"), bars([[*head, ""], *lines[1:]], shares), picture(figures.curves([panel]), "sane MD")
    )


_KINDS = {
    "strain": ("Energy under strain", "strain", "energy (meV/atom)", "strain", "energy_meV_per_atom"),
    "energy": ("Energy in NVE MD", "time (ps)", "total energy (meV/atom)", "time_ps", "energy_meV_per_atom"),
    "rdf": ("Radial distribution", "r (Å)", "g(r)", "r_A", "g"),
    "vdos": ("Vibrational density of states", "frequency (THz)", "density (1/THz)", "frequency_THz", "density_per_THz"),
}
"""Of each kind of curve its title, labels of the axes, and columns of x and y."""

_PART = {"strain": "start", "rdf": "pair"}
"""The column whose values get panels of their own."""

_REFERENCE = "reference"


def properties(curves: Mapping[str, Mapping[str, Path]], reference: Mapping[str, Path]) -> Html:
    """Return the curves of the first walk. curves: files by model and kind; reference: those they are held against."""
    pieces = []
    for kind, (title, x, y, *_) in _KINDS.items():
        files = {name: some[kind] for name, some in curves.items()}
        if kind in reference:
            files[_REFERENCE] = reference[kind]
        panels = _panels(kind, files)
        more = f"; the first {_MOST_PANELS} of {len(panels)}" if len(panels) > _MOST_PANELS else ""
        walk = "" if kind == "strain" else " The first walk; the others are in the run folder."
        drawn = [
            Panel(name or title, x, y, lines, marked=kind == "strain", reference=(_REFERENCE, _LABELS))
            for name, lines in list(panels.items())[:_MOST_PANELS]
        ]
        if drawn:
            pieces.append(picture(figures.curves(drawn), title, f"{title}{more}.{walk}"))
    return join(*pieces)


_LABELS = "labels"


def _panels(kind: str, files: Mapping[str, Path]) -> dict[str, dict[str, Line]]:
    """Return lines by panel and model; of energies under strain the labels too, where frames have them."""
    *_, x, y = _KINDS[kind]
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    first = ""
    for name, path in files.items():
        for row in read_csv(path):
            first = first or row.get("walk", "")
            if row.get("walk", "") != first:
                continue
            panel = row[_PART[kind]] if kind in _PART else ""
            if row[y]:
                found[panel][name].append((float(row[x]), float(row[y])))
            if row.get("label_meV_per_atom"):
                found[panel][_LABELS].append((float(row[x]), float(row["label_meV_per_atom"])))
    for lines in found.values():
        if _LABELS in lines:
            lines.pop(_REFERENCE, None)  # errors are from the labels then
    return {panel: {name: _sorted(points) for name, points in lines.items()} for panel, lines in found.items()}


def _sorted(points: Sequence[tuple[float, float]]) -> Line:
    once = sorted(dict(points).items())  # labels come once with every model
    return [x for x, _ in once], [y for _, y in once]


def time(rows: Rows) -> Html:
    """Return where the time went. rows: of `timing.times`."""
    here = [row for row in rows if row["how"] == timing.HERE]
    total = sum(row["wall_s"] for row in here)
    lines = [["stage", "times", "wall s", ""]]
    lines += [
        [row["stage"] if row["how"] == timing.HERE else f"{row['stage']} ({row['how']})", str(row["n_stages"]),
         f"{row['wall_s']:.0f}"]
        for row in rows
    ]  # fmt: skip
    said = f"All stages took {total:.0f} s ({total / 3600:.1f} h)."
    return join(paragraph(said), bars(lines, [row["share"] for row in rows]))


def warnings(said: Sequence[str]) -> Html:
    """Return what looked odd about the data before the run, a sentence each."""
    return element("ul", *(element("li", text(line)) for line in said))


def provenance(about: Mapping[str, Any]) -> Html:
    """Return recipe, seed, hashes, versions and hardware; see `about.about`."""
    counts = f"{about['n_train']} training and {about['n_valid']} validation frames."
    hashes = [["file", "SHA-256"], *([key, value] for key, value in about["data_sha256"].items())]
    made = [["", ""], *([key, value] for key, value in {**about["versions"], **about["hardware"]}.items())]
    recipe = yaml.safe_dump(about["recipe"], sort_keys=False, allow_unicode=True, width=110)
    return join(
        paragraph(f"Recipe {about['name']}, seed {about['seed']}; every other seed is derived from it. {counts}"),
        table(hashes, left=2),
        table(made, left=2),
        folded("The recipe", element("pre", text(recipe))),
    )
