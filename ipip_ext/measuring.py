"""What all contenders are measured by, beside the test set, and the report that sets them side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ipip_ext.contenders import Contender, Contenders
from ipip_ext.data import frames as fr
from ipip_ext.measure.property_curves import agreement
from ipip_ext.measure.timing import times, training_costs
from ipip_ext.recipe.evaluate import Properties, Stability
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.recipe.walk import Explore
from ipip_ext.report.about import about
from ipip_ext.report.shown import Asked, Scored, Shown, ShownModel, Speed, Sureness, Walks
from ipip_ext.rounds import Setting
from ipip_ext.run.seeds import derive
from ipip_ext.run.stage import Done
from ipip_ext.stages.calibration import calibration
from ipip_ext.stages.evaluate import frame_ids
from ipip_ext.stages.home import home
from ipip_ext.stages.inputs import Calculator, Measuring, Model, Settled, Voters
from ipip_ext.stages.properties import as_nve, properties, trajectory_properties
from ipip_ext.stages.report import report
from ipip_ext.stages.speed import speed
from ipip_ext.stages.speed_cells import supercell
from ipip_ext.stages.stability import as_md, stability
from ipip_ext.teachers import entries


@dataclass(frozen=True)
class FromHome:
    """What the home of a finished student is told on: its export, and the pool that its iteration began with."""

    exported: Done
    pool: Path


def compare(
    setting: Setting, contenders: Contenders, committee: Done | None, settled: FromHome | None = None
) -> Done:  # fmt: skip
    """Walk and time all contenders side by side and write the table, the plots and the page.

    committee: the one whose expected errors are held against the test frames. settled: None for a student of an older
    version, which can't tell where it is at home.
    """
    walked = _walk(setting, contenders.values())
    measured = _measure_properties(setting, contenders.values())
    sure = None if committee is None else _check_committee(setting, committee)
    from_home = None if settled is None else _look_from_home(setting, settled)
    timed = _time(setting, contenders)
    setting.work.wait()  # costs and times are read off the records of all stages
    costs = training_costs(setting.work.root, {name: c.scores.record for name, c in contenders.items()})
    shown = Shown(
        models={
            name: ShownModel(
                role=c.role,
                stage=c.stage,
                aligned=c.aligned,
                stability=walked.get(c.at),
                properties=measured.values.get(c.at, {}),
                curves=measured.curves.get(c.at, {}),
                cost=costs.get(name, {}),
                n_parameters=c.scores.n_parameters,
                n_frames=c.scores.n_frames,
                panel=f"{name}{c.of_split}",
            )
            for name, c in contenders.items()
        },
        scores={name: Scored(c.scores.per_frame, c.scores.forces) for name, c in contenders.items()},
        exam=_asked(setting, contenders.values()),
        speed=timed,
        calibration=sure,
        times=times(setting.work.root),
        reference=_reference_said(setting.recipe),
        reference_curves=measured.reference,
        about=about(setting.recipe, setting.work.root),
        home=from_home,
    )
    return setting.work.at(follows=True).do(report, shown=shown)


def _look_from_home(setting: Setting, settled: FromHome) -> Path:
    """Return the file that tells how far from home the student is on test frames and pool."""
    student = Settled(setting.recipe.backend, settled.exported.home_safetensors)
    found = setting.work.at(follows=True).do(home, student=student, exam=setting.exam, pool=settled.pool)
    told: Path = found.told
    return told


def _asked(setting: Setting, contenders: Iterable[Contender]) -> Asked:
    partial = {next(iter(c.scores.errors)): frame_ids(c.scores.per_frame) for c in contenders if c.is_partial}
    recipe, exam = setting.recipe, setting.exam
    seed = derive(recipe.seed, "bootstrap")
    return Asked(exam.test, exam.ood, partial, recipe.data.split_keys, seed, exam.sets)


def _time(setting: Setting, contenders: Contenders) -> Speed:
    """Time all contenders in turn, but those that don't know an element of the cell."""
    settings, starts = setting.recipe.evaluate, setting.data.starts
    cell = supercell(fr.read_structures(starts), settings)
    models = {name: contender.model for name, contender in contenders.items() if contender.knows([cell])}
    timed = setting.work.at(follows=True, alone=True).do(speed, settings, models=models, starts=starts)
    return Speed(timed.md_step_ms, timed.peak_memory_MiB, timed.n_atoms, timed.formula, timed.rows)


def _walk(setting: Setting, contenders: Iterable[Contender]) -> dict[str, Walks]:
    """Return how stable MD is with each contender, by the place of its stages; empty if the recipe asks for none.

    A model that doesn't know all elements of the starts is left out: it could walk from some only.
    """
    recipe, wanted = setting.recipe, setting.recipe.evaluate.stability
    if wanted is None:
        return {}
    settings = as_md(wanted, setting.data.starts, recipe.explore.max_batch_replicas)
    seed = derive(recipe.seed, "stability")
    structures = fr.read_structures(settings.starts)
    models = {c.at: c.model for c in contenders if _walks(c, wanted) and c.knows(structures)}
    done = {
        at: setting.work.at(at).do(stability, settings, model=model, starts=settings.starts, seed=seed)
        for at, model in models.items()
    }
    return {at: Walks(d.shares, d.n_walks, d.time_ps, d.walks) for at, d in done.items()}


def _walks(c: Contender, wanted: Stability) -> bool:
    if c.role == "iteration":
        return wanted.every_iteration
    return wanted.models is None or c.name in wanted.models


@dataclass(frozen=True)
class _Measured:
    """Properties, by the place of a model's stages: numbers and files of curves by kind; the reference's files."""

    values: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Mapping[str, Path]]
    reference: Mapping[str, Path]


def _measure_properties(setting: Setting, contenders: Iterable[Contender]) -> _Measured:
    """Return what each contender's properties are and how far from the reference's.

    Iterations that were not chosen are left out, and a model that doesn't know all elements of what walks. The
    teacher as the reference walks with velocities of its own, so that its distance from itself is what chance gives.
    """
    recipe, wanted = setting.recipe, setting.recipe.evaluate.properties
    if wanted is None:
        return _Measured({}, {}, {})
    on = Measuring(
        wanted.starts or setting.data.starts, wanted.trajectory, wanted.strained,
        (recipe.data.energy_key, recipe.data.forces_key), wanted.strains, wanted.skip_ps, wanted.rdf_max_A,
    )  # fmt: skip
    nve = as_nve(wanted, setting.data.starts, recipe.explore.max_batch_replicas)
    paths = (on.starts, on.trajectory, on.strained)
    structures = [atoms for path in paths if path is not None for atoms in fr.read_structures(path)]
    models = {c.at: c.model for c in contenders if c.role != "iteration" and c.knows(structures)}
    seed = derive(recipe.seed, "properties")
    done = {
        at: setting.work.at(at).do(properties, nve, model=model, measured=on, seed=seed) for at, model in models.items()
    }
    reference = _reference_curves(setting, wanted, nve, on)
    curves = {at: {key: getattr(d, key) for key in ("strain", "energy", "rdf", "vdos")} for at, d in done.items()}
    values = {at: d.measured | agreement(curves[at], reference) for at, d in done.items()}
    return _Measured(values, curves, reference)


def _reference_curves(setting: Setting, wanted: Properties, nve: Explore, on: Measuring) -> dict[str, Path]:
    """Return the files of the curves that all models are held against."""
    found: dict[str, Path] = {}
    here = setting.work.at("reference")
    if wanted.trajectory is None or wanted.strained is None:
        seed = derive(setting.recipe.seed, "properties", "reference")
        told = here.do(properties, nve, model=Model(Calculator(setting.teacher)), measured=on, seed=seed)
        found = {key: getattr(told, key) for key in ("strain", "rdf", "vdos")}
    if wanted.trajectory is not None:
        told = here.do(
            trajectory_properties,
            trajectory=wanted.trajectory,
            step_fs=wanted.trajectory_step_fs,
            skip_ps=wanted.trajectory_skip_ps,
            rdf_max_A=wanted.rdf_max_A,
        )
        found |= {"rdf": told.rdf, "vdos": told.vdos}
    return found


def _reference_said(recipe: Recipe) -> dict[str, str]:
    """Return in words what properties are compared with, by their keys' beginnings; empty if there are none."""
    wanted = recipe.evaluate.properties
    if wanted is None:
        return {}
    teacher = f"the teacher's ({entries.describe(recipe.teacher)})"
    return {
        "walks": f"{teacher} walk with other velocities, so that its own row shows what chance gives"
        if wanted.trajectory is None
        else wanted.trajectory.name,
        "strain": f"{teacher} energies" if wanted.strained is None else f"the labels of {wanted.strained.name}",
    }


def _check_committee(setting: Setting, committee: Done) -> Sureness:
    """Return the calibration of `committee` and what the test frames say of it."""
    at = committee.folder.parent.name
    checked = setting.examined(at).do(
        calibration,
        voters=Voters(committee.members, setting.recipe.backend),
        error_per_spread=committee.error_per_spread,
        exam=setting.exam,
    )
    return Sureness(at, committee.calibration, checked.test)
