"""MACE foundation models: by file, by name, and only if they are what was released."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
import torch
from strangers import Evil
from tiny_mace import TINY

from ipip_ext.backends import known_models
from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.errors import CalculatorError, ModelFileError


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    backend, folder = MaceBackend(), tmp_path_factory.mktemp("model")
    model = backend.build(TINY, E0S_EV, [alloy(0)], seed=1)
    backend.export(model, folder)
    return model, folder


def test_foundation_by_file(exported):
    model, folder = exported
    potential = MaceBackend().foundation(str(folder / "student.model"), "cpu")
    assert potential.compute([alloy(1)])[0].energy_eV == pytest.approx(
        MaceBackend().potential(model, "cpu").compute([alloy(1)])[0].energy_eV
    )


def test_foundation_by_name_uses_the_cache(exported, monkeypatch, tmp_path):
    """A local stand-in takes the place of the download that users get."""
    from ipip_ext.backends.mace._mace import foundations

    known = foundations()
    monkeypatch.setattr(known, "get_cache_dir", lambda: str(tmp_path))
    monkeypatch.setattr(known, "_urlretrieve_with_timeout", lambda *_a, **_k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(CalculatorError, match=r"put it at .*20231210mace128L0_energy_epoch249model"):
        MaceBackend().foundation("small", "cpu")
    with pytest.raises(CalculatorError, match=r"put it at .*MACE-OFF23_small.model"):
        MaceBackend().foundation("mace_off:small", "cpu")
    assert "mace_agnesi_small.model" not in known_models.KNOWN_SHA256  # a stand-in is not what was released
    stand_in = (exported[1] / "student.model").read_bytes()
    (tmp_path / "mace_agnesi_smallmodel").write_bytes(stand_in)
    assert np.isfinite(MaceBackend().foundation("small-0b", "cpu").compute([alloy(1)])[0].energy_eV)


@pytest.mark.parametrize(("name", "cached"), [
    ("small", "20231210mace128L0_energy_epoch249model"), ("mace_off:small", "MACE-OFF23_small.model"),
])  # fmt: skip
def test_a_download_that_is_not_the_released_model_is_not_unpickled(exported, monkeypatch, tmp_path, name, cached):
    """From a server of this machine, which first has another file than the one released."""
    from ipip_ext.backends.mace._mace import foundations

    known, site, cache = foundations(), tmp_path / "site", tmp_path / "cache"
    urls = known.mace_off_urls if name.startswith("mace_off") else known.mace_mp_urls
    released_as = urls["small"].rsplit("/", 1)[-1]
    site.mkdir()
    torch.save(Evil(tmp_path / "ran"), site / released_as)
    monkeypatch.setattr(known, "get_cache_dir", lambda: str(cache))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(urls, "small", f"http://127.0.0.1:{server.server_port}/{released_as}")
        for _ in range(2):  # when it is downloaded, and when it is found in the cache
            with pytest.raises(ModelFileError, match=rf"{cached}: is not the {released_as} .* Delete it"):
                MaceBackend().foundation(name, "cpu")
        assert not (tmp_path / "ran").exists()
        (cache / cached).unlink()
        student = (exported[1] / "student.model").read_bytes()
        (site / released_as).write_bytes(student)
        monkeypatch.setitem(known_models.KNOWN_SHA256, released_as, hashlib.sha256(student).hexdigest())
        assert np.isfinite(MaceBackend().foundation(name, "cpu").compute([alloy(1)])[0].energy_eV)
        server.shutdown()
    assert [path.name for path in cache.iterdir()] == [cached]


def test_foundation_errors(tmp_path):
    with pytest.raises(CalculatorError, match="Did you mean medium-mpa-0"):
        MaceBackend().foundation("medium-mpa0", "cpu")
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"broken\.model"):
        MaceBackend().foundation(str(broken), "cpu")
    torch.save({"a": 1}, broken)
    with pytest.raises(ModelFileError, match="no MACE model"):
        MaceBackend().foundation(str(broken), "cpu")
