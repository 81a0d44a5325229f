"""Whatever stands in `info` and `arrays` of a user's frame, our own files can be read, and say of it what it was."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.spacegroup.spacegroup import Spacegroup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ipip_ext.data import frames as fr
from ipip_ext.data.storable import QUOTED, storable

KEYS = st.one_of(
    st.text(max_size=6), st.sampled_from(["", "a=b", "a:b", "pbc", "Lattice", "Properties", "stress", "1", QUOTED])
)
WORDS = st.one_of(
    st.text(max_size=12), st.sampled_from(["", " ", "T", "007", "1 2 3", "nan", "a\nb", '_JSON {"a"', "it's", "x\\"])
)
PLAIN = st.one_of(
    st.none(), st.booleans(), WORDS, st.integers(-(2**70), 2**70), st.floats(),
    st.binary(max_size=4), st.complex_numbers(allow_nan=False),
    st.builds(np.uint8, st.integers(0, 255)), st.builds(np.float32, st.floats(width=32)),
    st.builds(np.bool_, st.booleans()),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some, max_size=2)
)
DTYPES = st.sampled_from(["u1", "u8", "i4", "i8", "f4", "f8", "c16", "?", "U3", "S3"])
SHAPES = st.sampled_from([(2,), (2, 1), (2, 3), (2, 0), (2, 2, 2)])
COLUMNS = st.one_of(
    DTYPES.flatmap(lambda dtype: SHAPES.flatmap(lambda shape: hnp.arrays(dtype, shape))),
    st.lists(WORDS | st.none(), min_size=2, max_size=2).map(lambda words: np.array(words, dtype=object)),
)
NAMES = st.one_of(
    st.text(min_size=1, max_size=5),
    st.sampled_from(["a", "a0", "pos0", "species", "Z", "forces", "charge", "masses_", "move_mask", "a:b", "a b", "é"]),
)  # fmt: skip


def start() -> Atoms:
    atoms = bulk("AgPd", "rocksalt", a=5.123)
    atoms.pbc = (True, True, False)
    atoms.set_masses([106.9051, 104.9051])
    atoms.set_constraint(FixAtoms([1]))
    atoms.info[fr.ENERGY] = -1.2345678901234567
    atoms.info[fr.STRESS] = np.arange(9.0).reshape(3, 3) / 7
    atoms.arrays[fr.FORCES] = np.array([[0.125, -0.5, 3.0], [0.0, 1.0, -2.0]])
    return atoms


def is_said(read: object, value: object) -> bool:
    """Tell whether what was read is what was there; numbers in another form of a number, text as its words."""
    if isinstance(value, str):
        return str(read) == value
    if isinstance(value, list | dict | tuple) and not isinstance(read, np.ndarray):
        return repr(read) == repr(value)
    one, other = np.asarray(read), np.asarray(value)
    return one.size == other.size and np.array_equal(one.ravel(), other.ravel(), equal_nan=one.dtype.kind in "fc")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    info=st.dictionaries(KEYS | st.integers(), VALUES, max_size=4), arrays=st.dictionaries(NAMES, COLUMNS, max_size=3)
)
def test_what_is_written_is_read(tmp_path, info, arrays):
    atoms, path = start(), tmp_path / "frames.extxyz"
    atoms.info |= info
    for name, values in arrays.items():
        if name not in atoms.arrays:
            atoms.arrays[name] = values
    fr.write_frames(path, [atoms, start()])
    read, other = fr.read_frames(path)
    for frame in (read, other):
        assert list(frame.numbers) == [47, 46]
        assert list(frame.pbc) == [True, True, False]
        np.testing.assert_allclose(frame.positions, start().positions, atol=1e-8)
        np.testing.assert_array_equal(frame.cell.array, start().cell.array)
        np.testing.assert_allclose(frame.get_masses(), start().get_masses(), atol=1e-8)
        assert [list(c.get_indices()) for c in frame.constraints] == [[1]]
        assert frame.info[fr.ENERGY] == -1.2345678901234567
        np.testing.assert_array_equal(frame.info[fr.STRESS], start().info[fr.STRESS])
        np.testing.assert_array_equal(frame.arrays[fr.FORCES], start().arrays[fr.FORCES])
    for key, value in info.items():
        if key in read.info and key != QUOTED:
            assert is_said(read.info[key], value), (key, value, read.info[key])
        elif isinstance(key, str) and type(value) in (str, bool, int):  # only what can't be said is left out
            assert key == QUOTED or (read.calc is not None and key in read.calc.results), (key, value)
    fr.write_frames(path, [read, other])  # once more, as stages do
    again = fr.read_frames(path)[0]
    assert set(again.info) == set(read.info)


def test_plain_frames_are_written_as_ase_does(tmp_path):
    atoms = start()
    atoms.info |= {
        "start": "s0", "temperature_K": 300.0, "md_step": 5, "name": "1", "config_type": "bulk fcc", "n": np.int64(3),
        "label_source": "teacher:python:EMT", "spacegroup": Spacegroup(225), "kpts": [2, 2, 1], "label": 2**40,
        "REF_virial": np.eye(3), "occupancy": {"0": {"Mo": 1.0}},
    }  # fmt: skip
    atoms.arrays |= {"tags": np.array([1, 2]), "kind": np.array(["core", "shell"]), "on": np.array([True, False])}
    fr.write_frames(tmp_path / "ours.extxyz", [atoms])
    ase.io.write(tmp_path / "ase.extxyz", atoms)
    assert (tmp_path / "ours.extxyz").read_bytes() == (tmp_path / "ase.extxyz").read_bytes()


def test_odd_entries_are_quoted_and_odd_columns_left_out(tmp_path):
    atoms = start()
    atoms.info |= {
        "comment": "PBE, 500 eV\nrestarted once",
        "": 1,
        "a=b": "x",
        "flag": "T",
        3: "three",
        "z": 1j,
        "no": None,
    }
    atoms.arrays |= {"word": np.array(["", "b"]), "cube": np.zeros((2, 2, 2)), "count": np.array([1, 2], dtype="u2")}
    fr.write_frames(tmp_path / "a.extxyz", [atoms])
    (read,) = fr.read_frames(tmp_path / "a.extxyz")
    kept = {"comment": "PBE, 500 eV\nrestarted once", "": 1, "a=b": "x", "flag": "T", 3: "three", "no": None}
    assert {key: read.info[key] for key in kept} == kept
    assert not {"z", QUOTED} & set(read.info)
    assert read.arrays["count"].tolist() == [1, 2]
    assert not {"word", "cube"} & set(read.arrays)


@pytest.mark.parametrize("text", ["no list", "%5B1%5D", "%5B%5B1%2C2%2C3%5D%5D"])
def test_a_key_of_that_name_which_we_did_not_write_is_theirs(tmp_path, text):
    ase.io.write(tmp_path / "a.extxyz", Atoms("H", info={QUOTED: text}))
    assert fr.read_structures(tmp_path / "a.extxyz")[0].info[QUOTED] == text


def test_a_pdb_without_residue_names_is_a_start(tmp_path):
    atoms = molecule("CH3OH")
    ase.io.write(tmp_path / "start.pdb", atoms)
    bare = (tmp_path / "start.pdb").read_text().replace(" MOL ", "     ")
    (tmp_path / "start.pdb").write_text(bare)
    (read,) = fr.read_structures(tmp_path / "start.pdb")
    assert "" in read.arrays["residuenames"].tolist() or not read.arrays["residuenames"][0].strip()
    fr.write_frames(tmp_path / "start.extxyz", [read])
    (again,) = fr.read_frames(tmp_path / "start.extxyz")
    np.testing.assert_allclose(again.positions, read.positions, atol=1e-8)
    assert "residuenames" not in again.arrays


def test_what_is_stored_leaves_the_frame_as_it_is():
    atoms = start()
    atoms.info["comment"] = "two\nlines"
    before = dict(atoms.info)
    storable(atoms)
    assert atoms.info.keys() == before.keys()
