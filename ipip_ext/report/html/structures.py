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
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ipip_ext.data import frames as fr
from ipip_ext.data.tables import read_csv
from ipip_ext.measure.breakdown import TEMPERATURE, Examined, places, read
from ipip_ext.potentials.base import Array
from ipip_ext.report.html.atoms import SIDE_PX, STYLE, View
from ipip_ext.report.html.parts import Html, data_uri, element, join, paragraph, picture, table
from ipip_ext.units import MEV_PER_EV

N_SHOWN = 6
_MOST_ATOMS = 800
"""Of larger cells no picture is drawn: nothing could be seen."""

_GAP_PX, _LEGEND_PX, _STEPS = 24.0, 36.0, 32
"""Between two pictures; height of what is written below them; colours of a scale."""

_HEAT = colormaps["inferno_r"]


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


def worst(exam: Examined, models: Mapping[str, tuple[Path, Path]]) -> list[Worst]:
    """Return the frames on which the first of `models` has the largest force MAE, the worst first.

    models: by name, per_frame and forces of its evaluation.
    """
    (student, files), *_ = models.items()
    where, residuals = read(exam.frames, *files)
    told = {name: _by_place(exam, per_frame) for name, (per_frame, _) in models.items()}
    errors = [told[student].get(place, -np.inf) for place in where]
    found = []
    for row in np.argsort([-error for error in errors], kind="stable")[: min(N_SHOWN, len(told[student]))]:
        place = where[row]
        frame, mine = exam.frames[place], residuals.frames([int(row)])
        found.append(
            Worst(
                frame,
                np.linalg.norm(mine.predicted_eV_per_A - mine.reference_eV_per_A, axis=1),
                {model: some[place] for model, some in told.items() if place in some},
                float(abs(mine.energy_eV_per_atom[0]) * MEV_PER_EV),
            )
        )
    return found


def _by_place(exam: Examined, per_frame: Path) -> dict[int, float]:
    """Return the force MAE of each frame that has forces, by its place in the exam, meV/Angstrom."""
    table = read_csv(per_frame)
    found = zip(places(exam.frames, per_frame, table), table, strict=True)
    return {place: float(row["force_mae_meV_per_A"]) for place, row in found if row.get("force_mae_meV_per_A")}


def section(found: Sequence[Worst], start_key: str) -> Html:
    """Return the frames as a table and as pictures, if there are any. start_key: info key of a frame's origin."""
    if not found:
        return Html("")
    models = list(dict.fromkeys(name for one in found for name in one.force_mae_meV_per_A))
    head = ["frame", "formula", start_key, "T (K)", "E error", "worst atom", *(f"{name} F MAE" for name in models)]
    lines = [
        [
            str(one.frame.info[fr.ID]),
            one.frame.get_chemical_formula(),
            str(one.frame.info.get(start_key, "-")),
            _said(one.frame.info.get(TEMPERATURE)),
            "-" if np.isnan(one.energy_error_meV_per_atom) else f"{one.energy_error_meV_per_atom:.1f}",
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
    view, symbols, error = View.of(one.frame), one.frame.get_chemical_symbols(), one.force_error_eV_per_A
    colours = {symbol: to_hex(jmol_colors[atomic_numbers[symbol]]) for symbol in sorted(set(symbols))}
    most = float(error.max()) or 1.0
    left = view.drawn([colours[symbol] for symbol in symbols], named=True) + _legend(colours)
    right = view.drawn([to_hex(_HEAT(share)) for share in error / most]) + _scale(most)
    width, height = 2 * SIDE_PX + _GAP_PX, SIDE_PX + _LEGEND_PX
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}"><style>{STYLE}</style><g>{left}</g>'
        f'<g transform="translate({SIDE_PX + _GAP_PX:.0f} 0)">{right}</g></svg>'
    )
    return data_uri(drawn.encode(), "svg+xml")


def _legend(colours: Mapping[str, str]) -> str:
    """Return the elements with their colours, in a row below a picture."""
    step = min(48.0, SIDE_PX / len(colours))
    first, y = (SIDE_PX - step * len(colours)) / 2, SIDE_PX + 18
    shown = (
        f'<circle cx="{first + i * step + 8:.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>'
        f'<text x="{first + i * step + 17:.1f}" y="{y + 4.5:.1f}" style="text-anchor:start">{symbol}</text>'
        for i, (symbol, colour) in enumerate(colours.items())
    )
    return f'<g font-size="13">{"".join(shown)}</g>'


def _scale(most_eV_per_A: float) -> str:
    """Return the colours of force errors with their numbers, as a bar below a picture."""
    y, step = SIDE_PX + 6, SIDE_PX / _STEPS
    size = f'y="{y:.1f}" width="{step + 0.5:.1f}" height="10"'
    cells = [f'<rect x="{i * step:.1f}" {size} fill="{to_hex(_HEAT(i / _STEPS))}"/>' for i in range(_STEPS)]
    words = [
        f'<text x="{x:.1f}" y="{y + 24:.1f}" font-size="12" style="text-anchor:{anchor}">{said}</text>'
        for x, anchor, said in (
            (0.0, "start", "0"),
            (SIDE_PX / 2, "middle", "force error (eV/Å)"),
            (SIDE_PX, "end", f"{most_eV_per_A:.2g}"),
        )
    ]
    return "".join([*cells, *words])
