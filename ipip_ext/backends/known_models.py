"""Foundation models as they were released: what a download under a known name must be."""

from __future__ import annotations

from pathlib import Path

from ipip_ext.errors import ModelFileError
from ipip_ext.run.provenance import sha256

KNOWN_SHA256 = {
    "2023-12-10-mace-128-L0_energy_epoch-249.model": "2ddb079cee0e131eaaf6912ba581b394551ead283e95c99cfe78c605d10b5736",
    "2023-12-03-mace-128-L1_epoch-199.model": "01bfe22100139f424713cf921144e5509cbe353d67aa9fa1be9c6e1e0ed35845",
    "MACE_MPtrj_2022.9.model": "f80e992b65ab8f88fdf26964511357c022e92704e4d9bcd086652635a8495b32",
    "mace-mp-0b3-medium.model": "2f2be696351ac9e94fbe01cdfb6f017679acdbd2db7645209ef55fec9826b012",
    "mace-mpa-0-medium.model": "75428afe3a1d7d8062e19bcaabd5c433623cabf308242ec9fb493e38604fb638",
    "mace-omat-0-small.model": "0abfde07862cf1e93b8b4d03cb702f29ce9c344ff2fc4de2ec0d7166d6c113a5",
    "mace-omat-0-medium.model": "d4b14be9afa294eebdbe31a0280b26a0fa29715771e978cbfd3ca24e0d90307a",
    "MACE-matpes-pbe-omat-ft.model": "e618ad582b84239905b9c3b77ce6e9ce111b0ecd1533223a1a6aac7a696b8aa0",
    "MACE-matpes-r2scan-omat-ft.model": "8f147ecffa1d06a696e5648b13b81abda9c96fda9d0fb3faba3cd3fb27d9bba9",
    "MACE-OFF23_small.model": "165cce4cfec5a34b9c64d4ebf95de15d71106bb584b7291c8470f0749977c46f",
    "MACE-OFF23_medium.model": "4842c52ad210d6e1f84d6cf1ffa70fae25a7e0d755ed55cf223f43913f587db7",
    "MACE-OFF23_large.model": "a29e397dbf3e7a24ac50a9b0dfc919bd5a62efa346f5895a6237b0950c1d76f4",
}
"""SHA-256 of foundation models as their authors released them, by the file names of the releases.

MACE publishes none; each of these stands in at least two public repositories of independent groups who computed it.
"""


def verify_foundation(released_as: str, path: Path) -> None:
    """Raise ModelFileError if the file at `path` is not the model that was released under this file name.

    Reads the file and runs nothing of it. A name that is not known here is taken as it comes.
    """
    known = KNOWN_SHA256.get(released_as)
    if known is not None and (found := sha256(path)) != known:
        raise ModelFileError(
            f"{path}: is not the {released_as} that was released: its SHA-256 is {found}, not {known}."
            " Delete it, so that it is downloaded again; if you mean this file, name it by its path."
        )
