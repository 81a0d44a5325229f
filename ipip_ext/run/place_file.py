"""A place file: executors by name, in Parsl's own terms.

    executors:
      gpu:
        class: HighThroughputExecutor
        available_accelerators: 4
        provider:
          class: SlurmProvider
          partition: gpu

`class` names a class of Parsl's, all other keys are its own keywords; Parsl's documentation is their reference.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ipip_ext.errors import RecipeError, did_you_mean
from ipip_ext.run.processes import side_command

_KINDS = {
    "executor": ("parsl.executors", "Executor"),
    "provider": ("parsl.providers", "Provider"),
    "launcher": ("parsl.launchers", "Launcher"),
}
"""What may be named -> where Parsl keeps its classes, and what their names end with."""

_INTERCHANGE = "parsl.executors.high_throughput.interchange"

_OURS = {"executor": ("label",), "provider": (), "launcher": ()}
"""Keywords that this package gives."""


@dataclass(frozen=True)
class Executors:
    """What a place file says. executors: by name. config: further keywords of Parsl's Config."""

    path: Path
    executors: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Executors:
        """Return what the file `path` says. Raises RecipeError that names the key, or if Parsl is not installed."""
        _require_parsl(path)
        try:
            told = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"{path}: can't be read ({error.strerror}).") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: is no YAML ({' '.join(str(error).split())}).") from None
        if not isinstance(told, Mapping) or not isinstance(told.get("executors"), Mapping) or not told["executors"]:
            raise RecipeError(f"{path}: names no executors; recipes/places has examples.")
        for key in set(told) - {"executors", "config"}:
            raise RecipeError(f"{path}: {key} is unknown.{did_you_mean(str(key), ('executors', 'config'))}")
        found = cls(path, {str(name): one for name, one in told["executors"].items()}, told.get("config") or {})
        found._check()
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the executors, as the file orders them."""
        return tuple(self.executors)

    def provider_of(self, name: str) -> str:
        """Return the name of the class that asks for the blocks of an executor."""
        return str((self.executors[name].get("provider") or {}).get("class", "LocalProvider"))

    def build(self, worker_init: str) -> list[Any]:
        """Return Parsl's executors. worker_init: shell lines that come before the file's own."""
        return [self._made(f"executors.{name}", "executor", one, worker_init, label=name)
                for name, one in self.executors.items()]  # fmt: skip

    def _check(self) -> None:
        for name, one in self.executors.items():
            if name == "here":
                raise RecipeError(f"{self.path}: executors.here: is the run's own process; choose another name.")
            self._check_class(f"executors.{name}", "executor", one)
        from parsl.config import Config

        self._check_keys("config", Config, self.config, ("executors", "run_dir"))

    def _check_class(self, where: str, kind: str, told: Any) -> None:
        if not isinstance(told, Mapping) or "class" not in told:
            raise RecipeError(f"{self.path}: {where}: needs class: one of Parsl's, such as {_EXAMPLES[kind]}.")
        given = {key: value for key, value in told.items() if key != "class"}
        self._check_keys(where, self._class(where, kind, told["class"]), given, _OURS[kind])
        for inner in ("provider", "launcher"):
            if inner in given:
                self._check_class(f"{where}.{inner}", inner, given[inner])

    def _check_keys(self, where: str, made: Any, given: Mapping[Any, Any], ours: tuple[str, ...]) -> None:
        known = set(inspect.signature(made).parameters) - {"self", *ours}
        for key in given:
            if key not in known:
                raise RecipeError(
                    f"{self.path}: {where}.{key} is unknown to {made.__name__}.{did_you_mean(str(key), known)}"
                )

    def _class(self, where: str, kind: str, name: Any) -> Any:
        module, ending = _KINDS[kind]
        known = {
            n: c
            for n, c in vars(__import__(module, fromlist=["_"])).items()
            if n.endswith(ending) and inspect.isclass(c)
        }
        if name not in known:
            raise RecipeError(f"{self.path}: {where}.class: Parsl has no {name}.{did_you_mean(str(name), known)}")
        return known[name]

    def _made(self, where: str, kind: str, told: Mapping[str, Any], worker_init: str, **ours: Any) -> Any:
        made = self._class(where, kind, told["class"])
        given = {key: value for key, value in told.items() if key != "class"}
        for inner in ("provider", "launcher"):
            if inner in given:
                given[inner] = self._made(f"{where}.{inner}", inner, given[inner], worker_init)
        known = inspect.signature(made).parameters
        if "encrypted" in known:
            given = {"encrypted": True} | given  # else whoever is on the network may hand its workers jobs
        if "interchange_launch_cmd" in known:  # Parsl's own would outlive a run that is killed
            given = {"interchange_launch_cmd": side_command(_INTERCHANGE)} | given
        if "worker_init" in known:
            given["worker_init"] = "\n".join([worker_init, given.get("worker_init", "")])
        try:
            return made(**ours | given)
        except Exception as error:
            raise RecipeError(f"{self.path}: {where}: {made.__name__} says: {error}") from error


_EXAMPLES = {"executor": "HighThroughputExecutor", "provider": "SlurmProvider", "launcher": "SrunLauncher"}


def _require_parsl(path: Path) -> None:
    if importlib.util.find_spec("parsl") is None:
        raise RecipeError(f"{path}: needs Parsl: pip install 'ipip-mace[parsl]'.")
