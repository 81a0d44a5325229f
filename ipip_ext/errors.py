"""The exception tree.

    IpipError
    |-- UserError            the user can mend it: one line, exit code 2
    |   |-- RecipeError      a recipe key, value or path
    |   |-- DataError        a file of frames or its labels
    |   |-- CalculatorError  a teacher, reference or baseline that can't be made
    |   |-- ModelFileError   a model file that is missing, broken or foreign
    |   `-- WorkspaceError   a run folder that is broken or belongs to another recipe
    `-- StageFailed          the computation itself failed; finished stages are intact
        |-- Diverged         a training whose loss or gradients became NaN or infinite
        |-- DeviceLost       the GPU itself failed
        `-- JobLost          the process that computed it has died, more often than it is tried again

Every message says what is wrong, where, and how to mend it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any


class IpipError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(IpipError):
    """Something the user can mend; shown as one line, exit code 2."""


class RecipeError(UserError):
    """A recipe that can't be used as it stands."""


class DataError(UserError):
    """Frames or labels that can't be used as they stand."""


class CalculatorError(UserError):
    """A calculator entry that can't be turned into a calculator."""


class ModelFileError(UserError):
    """A model file that is missing, corrupt, or not what it should be."""


class WorkspaceError(UserError):
    """A run folder that is corrupt or belongs to another recipe."""


class StageFailed(IpipError):
    """A computation failed; everything finished before it is intact."""


class Diverged(StageFailed):
    """A training whose loss or gradients are not finite.

    what: what was not, and where. best: by validation the best model until then, among them the one that the training
    began with; a backend's own object.
    """

    def __init__(self, what: str, best: Any) -> None:
        super().__init__(f"{what}. Lower lr or check these labels; finished epochs are kept.")
        self.what, self.best = what, best


class DeviceLost(StageFailed):
    """The GPU itself failed. All that this process asks of it from then on fails too, so no single frame is at fault.

    what: what was said. where: the stage, if it is known.
    """

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(
            f"{where}{': ' if where else ''}the device is lost ({what[:200]}). All that is finished is"
            " kept; see to it that the device works, and the same command goes on."
        )
        self.what = what

    @classmethod
    def told_by(cls, error: BaseException) -> DeviceLost | None:
        """Return `error` as one if it says that the device is lost; too little memory is no such thing."""
        if isinstance(error, cls):
            return error
        found = re.search(r"(CUDA|HIP) error: [^\n]*", str(error))
        return cls(found[0]) if found and "out of memory" not in found[0] else None


class JobLost(StageFailed):
    """The process that computed a stage has ended without a result, each time that it was tried."""


def raised(kind: str, message: str) -> IpipError:
    """Return the error of ours that another process has raised, as if it had been raised here.

    kind: the name of its class; one that is no error of ours makes a StageFailed.
    """
    known = globals().get(kind)
    if not (isinstance(known, type) and issubclass(known, IpipError)):
        return StageFailed(f"{kind}: {message}")
    error = known.__new__(known, message)  # some make their message of what they are given
    error.args = (message,)
    return error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the closest known word, else the known words."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else f" Known: {', '.join(options)}."
