"""`ipip-mace evaluate`: any model on any labelled file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import ipip_ext
from ipip_ext.cli.echo import echo
from ipip_ext.cli.options import FILE, TRUST


@click.command()
@click.argument("model")
@click.argument("data", type=FILE)
@click.option("--energy-key", default="REF_energy", show_default=True)
@click.option("--forces-key", default="REF_forces", show_default=True)
@click.option("--stress-key", default=None)
@click.option("--device", default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@TRUST
def evaluate(model: str, data: Path, *, as_json: bool, **options: Any) -> None:
    """Measure MODEL on labelled frames.

    MODEL: a run or student folder, a MACE .model file, or a calculator entry such as chgnet or
    '{xtb: GFN1-xTB}'. Energies are compared as they come.
    """
    found = ipip_ext.evaluate(model, data, **options)
    if as_json:
        echo(json.dumps({"model": model, "data": str(data), **found}))
        return
    echo(f"{model} on {found.pop('n_frames')} frames of {data}")
    for key, value in found.items():
        echo(f"  {key:28s} {value:10.2f}")
