"""`file@index` means what it means to ASE's command line, and decides what a stage was made from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipip_ext.run import picked
from ipip_ext.run.fingerprint import fingerprint
from ipip_ext.run.provenance import sha256

SOME = st.one_of(st.none(), st.integers(-9, 9))


@given(first=SOME, last=SOME, step=SOME.filter(lambda value: value != 0), n_frames=st.integers(0, 8))
def test_a_slice_is_python_s(first, last, step, n_frames):
    said = [("" if part is None else str(part)) for part in (first, last, step)]
    assert picked.chosen(":".join(said), n_frames) == list(range(n_frames))[first:last:step]
    assert picked.chosen(":".join(said[:2]), n_frames) == list(range(n_frames))[first:last]


@pytest.mark.parametrize(
    ("index", "places"), [("0", [0]), ("-1", [3]), ("4", []), ("-5", []), ("9:", []), (":", [0, 1, 2, 3]), ("::0", [])]
)
def test_a_number_picks_one_and_beyond_the_file_nothing(index, places):
    assert picked.chosen(index, 4) == places


def test_a_file_whose_name_holds_an_at_is_itself(tmp_path):
    plain, odd = tmp_path / "train.xyz", tmp_path / "train.xyz@2"
    assert picked.split(odd) == (plain, "2")
    plain.write_text("a")
    assert picked.split(tmp_path / "train.xyz@::2") == (plain, "::2")
    assert picked.split(plain) == (plain, None)
    for name in ("train.xyz@last", "train.xyz@", "@2", "me@home.xyz", "train.xyz@1:2:3:4"):
        assert picked.split(tmp_path / name) == (tmp_path / name, None)
    odd.write_text("b")
    assert picked.split(odd) == (odd, None)


def test_a_fingerprint_sees_file_and_index(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text("a")

    def stage(ctx, *, train: Path) -> None: ...

    def of(train: Path) -> str:
        return fingerprint("stage", stage, None, {"train": train}, 0)["inputs"]["train"]

    assert of(path) == f"sha256:{sha256(path)}"
    assert of(tmp_path / "train.xyz@:2") == f"sha256:{sha256(path)}@:2"
    assert len({of(tmp_path / name) for name in ("train.xyz", "train.xyz@:2", "train.xyz@2")}) == 3
