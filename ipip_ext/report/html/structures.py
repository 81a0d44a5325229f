"""Where a model errs most: the frames, with pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.data.colors import jmol_colors
from ase.visualize.plot import plot_atoms
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from ipip_ext.data import frames as fr
from ipip_ext.data.tables import read_csv
from ipip_ext.measure.breakdown import TEMPERATURE, Exam, read
from ipip_ext.potentials.base import Array
from ipip_ext.report.html.figures import grid, svg
from ipip_ext.report.html.parts import Html, element, join, paragraph, picture, table
from ipip_ext.report.plots import plain
from ipip_ext.units import MEV_PER_EV

N_SHOWN = 6
_MOST_ATOMS = 800
"""Of larger cells no picture is drawn: an atom is a few hundred bytes of it, and nothing could be seen."""
_VIEW, _RADII = "-80x,12y,0z", 0.7
"""From the side, where a slab shows its layers; share of the covalent radii, so that atoms behind are seen."""


@dataclass(frozen=True)
class Worst:
    """A frame on which the student errs most.

    force_error_eV_per_A: length of the error of each atom's force, (n_atoms,). force_mae_meV_per_A: by model, where
    it has evaluated the frame. energy_error_meV_per_atom: of the student.
    """

    frame: Atoms
    force_error_eV_per_A: Array
    force_mae_meV_per_A: Mapping[str, float]
    energy_error_meV_per_atom: float


def worst(exam: Exam, models: Mapping[str, tuple[Path, Path]]) -> list[Worst]:
    """Return the frames on which the first of `models` has the largest force MAE, the worst first.

    models: by name, per_frame and forces of its evaluation.
    """
    (student, files), *_ = models.items()
    where, residuals = read(exam.frames, *files)
    told = {name: _by_frame(per_frame) for name, (per_frame, _) in models.items()}
    errors = [told[student][str(exam.frames[i].info[fr.ID])] for i in where]
    found = []
    for row in np.argsort([-error for error in errors], kind="stable")[:N_SHOWN]:
        frame, mine = exam.frames[where[row]], residuals.frames([int(row)])
        name = str(frame.info[fr.ID])
        found.append(
            Worst(
                frame,
                np.linalg.norm(mine.predicted_eV_per_A - mine.reference_eV_per_A, axis=1),
                {model: some[name] for model, some in told.items() if name in some},
                float(abs(mine.energy_eV_per_atom[0]) * MEV_PER_EV),
            )
        )
    return found


def _by_frame(per_frame: Path) -> dict[str, float]:
    return {row["frame_id"]: float(row["force_mae_meV_per_A"]) for row in read_csv(per_frame)}


def section(found: Sequence[Worst], start_key: str) -> Html:
    """Return the frames as a table and as pictures. start_key: info key of where a frame came from."""
    models = list(dict.fromkeys(name for one in found for name in one.force_mae_meV_per_A))
    head = ["frame", "formula", start_key, "T (K)", "E error", "worst atom", *(f"{name} F MAE" for name in models)]
    lines = [
        [
            str(one.frame.info[fr.ID]),
            one.frame.get_chemical_formula(),
            str(one.frame.info.get(start_key, "-")),
            _said(one.frame.info.get(TEMPERATURE)),
            f"{one.energy_error_meV_per_atom:.1f}",
            _worst_atom(one),
            *(f"{one.force_mae_meV_per_A[name]:.0f}" if name in one.force_mae_meV_per_A else "-" for name in models),
        ]
        for one in found
    ]
    pictures = [
        picture(draw(one), f"structure of frame {i}", f"{one.frame.info[fr.ID]}: {one.frame.get_chemical_formula()}")
        for i, one in enumerate(found, start=1)
        if len(one.frame) <= _MOST_ATOMS
    ]
    return join(
        paragraph(
            f"The {len(found)} test frames on which the student's forces are worst; F in meV/Å, E in meV/atom."
            " Left: the elements; right: the size of each atom's force error.",
            "note",
        ),
        table([head, *lines], left=3),
        element("div", *pictures, class_="frames"),
    )


def _worst_atom(one: Worst) -> str:
    index = int(np.argmax(one.force_error_eV_per_A))
    return f"{one.frame.symbols[index]} {index}: {one.force_error_eV_per_A[index]:.2f} eV/Å"


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else "-"


def draw(one: Worst) -> str:
    """Return two pictures of a frame side by side: its elements, and the size of each atom's force error."""
    figure, (left, right) = grid(2, panel_in=(2.4, 2.5))
    error = one.force_error_eV_per_A
    scale = Normalize(0, float(error.max()) or 1.0)
    symbols = one.frame.get_chemical_symbols()
    colours = {symbol: jmol_colors[atomic_numbers[symbol]] for symbol in sorted(set(symbols))}
    bare = Atoms(symbols, positions=one.frame.positions, cell=one.frame.cell, pbc=one.frame.pbc)
    heat = colormaps["inferno_r"]
    for panel, colors in ((left, [colours[s] for s in symbols]), (right, heat(scale(error))[:, :3])):
        plot_atoms(bare, panel, rotation=_VIEW, colors=np.asarray(colors), radii=_RADII, show_unit_cell=1)
        panel.set_axis_off()
    handles = [
        Line2D([], [], marker="o", linestyle="", markeredgecolor="black", markerfacecolor=tuple(c), label=plain(s))
        for s, c in colours.items()
    ]
    left.legend(handles=handles, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False)
    bar = figure.colorbar(ScalarMappable(scale, heat), ax=right, orientation="horizontal", shrink=0.8, aspect=25)
    bar.set_label("force error (eV/Å)", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    return svg(figure)
