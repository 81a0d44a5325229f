"""Place files: Parsl's classes and keywords by name, everything else refused in a line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from alloy import ROOT

from ipip_ext.errors import RecipeError
from ipip_ext.run.cluster import Cluster
from ipip_ext.run.place_file import Executors

pytest.importorskip("parsl")

GOOD: dict[str, Any] = {
    "executors": {
        "gpu": {
            "class": "HighThroughputExecutor", "max_workers_per_node": 2,
            "provider": {"class": "SlurmProvider", "partition": "gpu", "launcher": {"class": "SrunLauncher"}},
        }
    },
    "config": {"strategy_period": 1},
}  # fmt: skip


def write(folder: Path, told: Any) -> Path:
    path = folder / "place.yaml"
    path.write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/places").glob("*.yaml")), ids=lambda path: path.stem)
def test_those_that_are_shipped_are_in_order(path):
    assert Executors.read(path).build("true")


def test_keywords_are_passed_on(tmp_path):
    (made,) = Executors.read(write(tmp_path, GOOD)).build("export A=1")
    assert (made.label, made.max_workers_per_node, made.provider.partition) == ("gpu", 2, "gpu")
    assert made.encrypted
    assert made.provider.worker_init.startswith("export A=1\n")
    assert type(made.provider.launcher).__name__ == "SrunLauncher"


def changed(*keys: str, value: Any) -> dict[str, Any]:
    told: Any = copy.deepcopy(GOOD)
    here = told
    for key in keys[:-1]:
        here = here[key]
    here[keys[-1]] = value
    return told


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("executors: [", "is no YAML"),
        ("executors: {}", "names no executors"),
        ("- a", "names no executors"),
        (changed("executor", value={}), "executor is unknown. Did you mean executors?"),
        (changed("executors", "here", value={}), "executors.here: is the run's own process"),
        (changed("executors", "gpu", value=3), "executors.gpu: needs class: one of Parsl's"),
        (changed("executors", "gpu", "class", value="HighThroughPutExecutor"), "Did you mean HighThroughputExecutor?"),
        (changed("executors", "gpu", "max_worker_per_node", value=1), "Did you mean max_workers_per_node?"),
        (changed("executors", "gpu", "provider", "class", value="SlurmProvder"), "Did you mean SlurmProvider?"),
        (changed("executors", "gpu", "provider", "partitions", value="x"), "Did you mean partition?"),
        (changed("executors", "gpu", "provider", "launcher", "class", value="os.system"), "Parsl has no os.system"),
        (changed("config", "strategy_perod", value=1), "Did you mean strategy_period?"),
        (changed("config", "run_dir", value="x"), "config.run_dir is unknown"),
    ],
)
def test_what_parsl_does_not_know_is_refused(tmp_path, told, said):
    with pytest.raises(RecipeError) as refused:
        Executors.read(write(tmp_path, told))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml: can't be read"):
        Executors.read(tmp_path / "none.yaml")


def test_a_stage_goes_to_an_executor_that_the_file_has(tmp_path):
    with pytest.raises(RecipeError, match=r"compute\.stages\.ask: .* has no executor gpus\. Did you mean gpu\?"):
        Cluster(tmp_path, write(tmp_path, GOOD), {"ask": "gpus"})
