"""What events mean to runs."""

from __future__ import annotations

import pytest

from ipip_ext.run.events import Event
from ipip_ext.tracking.entries import run_of, run_title, translate


@pytest.mark.parametrize(
    ("name", "is_detail"),
    [
        ("test_force_mae_meV_per_A", False), ("test_id_energy_rmse_meV_per_atom", True), ("md_step_ms", False),
        ("test_Mo_S_force_mae_meV_per_A", False), ("test_stress_mae_meV_per_A3", False), ("md_sane_share", False),
        ("test_Mo_S_force_mae_Mo_meV_per_A", True), ("test_force_mae_1500K_meV_per_A", True),
        ("test_ood_energy_mae_ci95_low_meV_per_atom", True), ("test_id_force_p95_meV_per_A", True),
        ("test_force_angle_deg", True), ("md_sane_share_300K", True), ("md_step_ms_108_atoms", True),
        ("strain_rmse_meV_per_atom", False), ("n_reference_labels", True),
    ],
)  # fmt: skip
def test_what_one_looks_for_first_is_not_lost_among_details(name, is_detail):
    (entry,) = translate(Event("row", "scratch", data={"role": "baseline", "stage": "s", "metrics": {name: 1.0}}))
    assert entry.metrics == {f"work.detail.{name}" if is_detail else name: 1.0}


def test_translate_knows_children_and_leaves_out_what_is_no_number():
    assert run_of("iter-03/pretrain") == "iter-03"
    assert run_of("baseline-scratch") == "baseline-scratch"
    assert run_of("explore") == run_of("iter-x/pretrain") == run_of("") == ""
    assert run_title("iter-03") == ("iteration 3", "iteration")
    assert run_title("baseline-scratch") == ("scratch", "baseline")
    assert translate(Event("note", "x")) == translate(Event("progress", "x", 0.1)) == []
    (entry,) = translate(Event("metric", "name", "text", "explore"))
    assert not entry.metrics
