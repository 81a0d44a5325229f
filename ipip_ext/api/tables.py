"""Rows as the table that Python users work with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipip_ext.stages.report_tables import Row


def as_table(rows: Sequence[Row]) -> Any:
    """Return rows as a pandas.DataFrame, or, where pandas is not installed, as a list of dicts."""
    try:
        import pandas as pd  # type: ignore[import-untyped]
    except ImportError:
        return list(rows)
    return pd.DataFrame(list(rows))
