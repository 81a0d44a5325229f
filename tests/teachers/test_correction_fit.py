"""What a fit of corrections finds, what it chooses, and how far it trusts itself."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from corrections import TEACHER, alloys, correction, references, strained_alloy

from ipip_ext.data import frames as fr
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.labels import Correction
from ipip_ext.teachers.correction.fit import Trial, _Ridge, choose, fit, groups
from ipip_ext.teachers.correction.fitted import FORMS, TeacherCorrection


def fitted(frames: list[Atoms], **settings: object) -> tuple[TeacherCorrection, list[Trial]]:
    wanted = Correction(**{"r_max_A": 4.0, "n_basis": 4, "max_ell": 3, "damping": None, **settings})
    return fit(frames, TEACHER.compute(frames), wanted, fr.elements(frames))


@pytest.mark.parametrize("form", ["scale", "composition", "element", "pair", "angular"])
def test_a_fit_finds_the_truth_where_the_form_holds_it(form):
    truth = correction(form, seed=1)
    train, unseen = references(truth, alloys()), references(truth, [strained_alloy(500 + i, 2) for i in range(3)])
    found, trials = fitted(train, form=form, ridge=1e-9)
    assert [trial.form for trial in trials] == ["none", form]
    assert trials[1].force_mae_meV_per_A < 1 < trials[0].force_mae_meV_per_A
    for frame, told in zip(unseen, found.apply(unseen, TEACHER.compute(unseen)), strict=True):
        assert np.allclose(told.forces_eV_per_A, frame.arrays[fr.FORCES], atol=1e-3)
    if form != "angular":  # whose columns are not independent of those of the pair potential
        assert all(np.allclose(found.coefficients[b], truth.coefficients[b], atol=1e-3) for b in FORMS[form])


@pytest.mark.parametrize("form", list(FORMS))
def test_auto_takes_the_simplest_form_that_holds_the_truth(form):
    truth = correction(form, seed=2)
    found, trials = fitted(references(truth, alloys()), form="auto", ridge=1e-9)
    assert found.form == form
    assert [trial.form for trial in trials] == list(FORMS)
    assert set(trials[0].by_group_meV_per_A) == {"Cu", "AlCu3", "AlCu", "Al3Cu"}


def test_a_richer_form_must_win_by_more_than_a_hundredth():
    trials = [Trial(form, 1.0, error, {}) for form, error in (("none", 100.0), ("scale", 99.5), ("pair", 98.9))]
    assert choose(trials).form == "pair"
    assert choose(trials[:2]).form == "none"
    assert choose([*trials, Trial("angular", 1.0, 98.5, {})]).form == "pair"


def test_cross_validation_fits_without_the_group_it_judges():
    frames = references(
        correction("scale", seed=3), [strained_alloy(i, n) for i, n in ((1, 1), (2, 1), (3, 2), (4, 2))]
    )
    teacher = TEACHER.compute(frames)
    _, (none, scale) = fitted(frames, form="scale", ridge=5.0)
    for name, judged, others in (("AlCu3", [0, 1], [2, 3]), ("AlCu", [2, 3], [0, 1])):
        forces = [np.array([teacher[i].forces_eV_per_A for i in rows]).ravel() for rows in (judged, others, range(4))]
        wants = [np.array([frames[i].arrays[fr.FORCES] for i in rows]).ravel() for rows in (judged, others)]
        share = forces[1] @ (wants[1] - forces[1]) / (forces[1] @ forces[1] + 5.0 * np.mean(forces[2] ** 2))
        assert none.by_group_meV_per_A[name] == pytest.approx(np.abs(wants[0] - forces[0]).mean() * 1e3)
        assert scale.by_group_meV_per_A[name] == pytest.approx(np.abs(wants[0] - (1 + share) * forces[0]).mean() * 1e3)


def test_the_ridge_is_chosen_by_cross_validation():
    frames = references(correction("pair", seed=4), alloys())
    rng = np.random.default_rng(0)
    for frame in frames:
        frame.arrays[fr.FORCES] = frame.arrays[fr.FORCES] + rng.normal(0, 0.05, (4, 3))
    errors = {r: fitted(frames, form="pair", ridge=r)[1][1].force_mae_meV_per_A for r in (1, 3, 10, 30, 100)}
    chosen = fitted(frames, form="pair")[1][1]
    near = [ridge for ridge, error in errors.items() if error < 1.02 * min(errors.values())]
    assert chosen.ridge == max(near)
    assert 1 < chosen.ridge < 100  # else this says nothing of the choice
    assert chosen.force_mae_meV_per_A == pytest.approx(errors[chosen.ridge])
    strong = fitted(frames, form="pair", ridge=1e9)[0]  # pulls all the way to the teacher as it comes
    assert np.allclose(strong.apply(frames, TEACHER.compute(frames))[0].forces_eV_per_A,
                       TEACHER.compute(frames)[0].forces_eV_per_A, atol=1e-4)  # fmt: skip


def test_groups_are_keys_or_compositions_or_blocks():
    frames = [strained_alloy(i, n) for i, n in enumerate((1, 1, 2, 2))]
    assert groups(frames, ()) == ["AlCu3", "AlCu3", "AlCu", "AlCu"]
    assert groups([frames[0], frames[0].repeat(2), frames[2]], ()) == ["AlCu3", "AlCu3", "AlCu"]
    for frame, start in zip(frames, "abab", strict=True):
        frame.info |= {"start": start, "T": 300}
    assert groups(frames, ("start", "T")) == ["a/300", "b/300", "a/300", "b/300"]
    assert groups(frames, ("T",)) == ["block 0", "block 1", "block 2", "block 3"]
    assert groups([frames[0]] * 40, ()) == [f"block {i // 4}" for i in range(40)]


def test_frames_of_one_element_and_an_element_that_they_lack():
    train = references(correction("pair", seed=5), [strained_alloy(i, 0) for i in range(12)])
    wanted = Correction(form="auto", n_basis=4, max_ell=3)
    found, _ = fit(train, TEACHER.compute(train), wanted, ("Al", "Cu"))
    assert found.form in ("pair", "angular")
    mixed = [strained_alloy(3, 2)]
    (told,) = found.apply(mixed, TEACHER.compute(mixed))
    assert np.isfinite(told.forces_eV_per_A).all()
    (alone,) = found.apply([Atoms("Al", cell=[20] * 3, pbc=True)], [Prediction(0.0, np.zeros((1, 3)))])
    assert np.allclose(alone.forces_eV_per_A, 0)


def test_far_from_the_training_frames_the_correction_fades():
    truth = correction("pair", seed=1)
    train, near = references(truth, alloys()), [strained_alloy(500 + i, 2) for i in range(5)]
    far = [atoms.copy() for atoms in near]
    for atoms in far:
        atoms.set_cell(atoms.cell.array * 0.75, scale_atoms=True)
    faded, _ = fitted(train, form="pair", ridge=0.1, damping=10.0)
    full, _ = fitted(train, form="pair", ridge=0.1)

    def shares(frames):
        said = TEACHER.compute(frames)
        pairs = zip(faded.apply(frames, said), full.apply(frames, said), said, strict=True)
        return [np.linalg.norm(a.forces_eV_per_A - t.forces_eV_per_A)
                / np.linalg.norm(b.forces_eV_per_A - t.forces_eV_per_A) for a, b, t in pairs]  # fmt: skip

    assert min(shares(near)) > 0.9
    assert max(shares(far)) < 0.1


def test_leverage_is_that_of_the_textbook():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    ridge = _Ridge(x, y)
    hat = x @ np.linalg.inv(x.T @ x + 2.0 * np.eye(3)) @ x.T
    assert np.allclose(np.sum((x @ ridge.root(2.0).T) ** 2, axis=1), np.diag(hat))
    assert ridge.mean_leverage(2.0) == pytest.approx(np.trace(hat) / 40)
    assert np.allclose(x @ ridge.values(2.0), hat @ y)
    rest = ridge.without(x[:7], y[:7])
    assert np.allclose(rest.values(2.0), _Ridge(x[7:], y[7:]).values(2.0))


def test_too_few_frames_and_an_unknown_key_are_refused():
    frames = references(correction("scale"), [strained_alloy(1), strained_alloy(2)])
    with pytest.raises(DataError, match="two training frames"):
        fitted(frames[:1], form="scale")
    assert fitted(frames[:1], form="auto")[0].form == "none"
    with pytest.raises(DataError, match=r"has no strt; it has .*label_source"):
        fitted(frames, form="scale", group_keys=("strt",))
