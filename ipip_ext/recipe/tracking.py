"""Recipe section of the mirror in MLflow."""

from __future__ import annotations

from pydantic import StrictBool

from ipip_ext.recipe.schema import Section


class Tracking(Section):
    """Where MLflow keeps the runs."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI; a relative sqlite path is taken from the working directory."""

    experiment: str = "ipip-mace"
    """MLflow experiment."""

    enabled: StrictBool = True
    """false: write the run folder only (`ipip-mace track` can mirror it later)."""

    register_model: StrictBool = True
    """Register the final student under the recipe's name, for `mlflow.pyfunc.load_model("models:/NAME/1")`. A student
    that is registered already makes no new version."""
