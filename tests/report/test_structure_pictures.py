"""Pictures of structures: atoms and bonds, the cell along what is periodic alone, and small whatever the box."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ipip_ext.report.html.atoms import SIDE_PX, View
from ipip_ext.report.html.structures import Worst, draw

SVG = "{http://www.w3.org/2000/svg}"


def boxed(length_A: float, *, pbc: bool = False) -> Atoms:
    atoms = molecule("C6H6")
    atoms.set_cell([length_A] * 3)
    atoms.pbc = pbc
    return atoms


def slab(missing_vector: bool = False) -> Atoms:
    atoms = fcc111("Ag", (2, 2, 3), a=4.05, vacuum=6.0)
    atoms.pbc = (True, True, False)
    if missing_vector:
        atoms.set_cell([*atoms.cell.array[:2], [0, 0, 0]])
    return atoms


def drawn(atoms: Atoms) -> ET.Element:
    errors = np.linspace(0, 1, len(atoms))
    uri = draw(Worst(atoms, errors, {}, 0.0))
    return ET.fromstring(base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")))  # noqa: S314 - our own


def count(picture: ET.Element, kind: str) -> int:
    """Return how many lines of a kind there are, in both halves of a picture."""
    return sum(path.get("d").count("M") for path in picture.iter(f"{SVG}path") if path.get("class") == kind)


@pytest.mark.parametrize(
    ("atoms", "n_edges"),
    [
        (molecule("C6H6"), 0),
        (boxed(100.0), 0),
        (boxed(20.0, pbc=True), 12),
        (slab(), 4),
        (slab(missing_vector=True), 4),
        (Atoms("Al4", np.outer(range(4), [2.5, 0, 0]), cell=[10, 0, 0], pbc=(True, False, False)), 1),
        (bulk("Cu"), 12),
        (molecule("H"), 0),
    ],
)
def test_a_cell_is_drawn_along_its_periodic_vectors_alone(atoms, n_edges):
    picture = drawn(atoms)
    assert count(picture, "cell") == 2 * n_edges
    places = [(float(c.get("cx")), float(c.get("cy"))) for c in picture.iter(f"{SVG}circle")]
    assert len(places) == 2 * len(atoms) + len(set(atoms.symbols))
    assert all(0 <= x <= SIDE_PX and 0 <= y <= SIDE_PX + 40 for x, y in places)


def test_bonds_are_those_of_the_molecule():
    assert count(drawn(molecule("C6H6")), "bond") == 2 * 12
    assert {tuple(pair) for pair in View.of(molecule("H2O")).bonds} == {(0, 1), (0, 2)}
    assert count(drawn(molecule("H")), "bond") == 0


def test_a_molecule_is_seen_where_it_is_broadest_and_not_in_a_mirror():
    benzene = molecule("C6H6")
    benzene.rotate(90, "x")  # its plane would be seen from its edge
    assert np.ptp(View.of(benzene).places, axis=0).min() > 0.7 * SIDE_PX
    chiral = Atoms("CHFClBr", [[0, 0, 0], [0.6, 0.6, 0.6], [-0.8, -0.8, 0.8], [-1, 1, -1], [1.1, -1.1, -1.1]])
    signs = set()
    for seed in range(5):
        turned = chiral.copy()
        turned.euler_rotate(*np.random.default_rng(seed).uniform(0, 360, 3))
        view = View.of(turned)
        rank = np.argsort(view.order).astype(float)  # depth, as far as its order tells
        arms = np.column_stack([view.places[1:4] - view.places[0], rank[1:4] - rank[0]])
        signs.add(np.sign(np.linalg.det(arms)))
    assert len(signs) == 1


def test_a_picture_is_small_whatever_the_box_and_the_number_of_atoms():
    size = len(ET.tostring(drawn(boxed(10.0))))
    assert len(ET.tostring(drawn(boxed(1000.0)))) == size < 10_000
    assert len(ET.tostring(drawn(boxed(1000.0, pbc=True)))) < 12_000
    assert len(ET.tostring(drawn(bulk("Cu", cubic=True) * (5, 5, 8)))) < 400_000  # 800 atoms


def test_few_atoms_have_their_symbols_on_them():
    words = [text.text for text in drawn(molecule("H2O")).iter(f"{SVG}text")]
    assert sorted(words) == sorted(["O", "H", "H", "H", "O", "0", "force error (eV/Å)", "1"])
