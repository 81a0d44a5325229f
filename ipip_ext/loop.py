"""The spine: the whole method, top to bottom.

Source: Cui et al., "Iterative Pretraining Framework for Interatomic Potentials", arXiv:2507.20118.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ipip_ext.baselines import begin_baselines, run_baselines
from ipip_ext.contenders import Contender
from ipip_ext.measuring import FromHome, compare
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.rounds import Beginning, Round, Setting, ask_reference, best_of, mend, opinion_of, still_pays, vote
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.evaluate import evaluate
from ipip_ext.stages.explore import explore, sample
from ipip_ext.stages.export import export
from ipip_ext.stages.inputs import Exam, Exported, Labellers, Labelling, Learnt, Model, Task
from ipip_ext.stages.label import label
from ipip_ext.stages.pool import forget, select
from ipip_ext.stages.prepare import prepare
from ipip_ext.stages.train import finetune, pretrain


def run(recipe: Recipe, work: Workspace) -> Done:
    """Run every iteration of `recipe`, reusing whatever `work` already holds; return the report."""
    data = prepare_data(recipe, work)
    task = Task(data.train, data.valid)
    exam = Exam(data.test, recipe.data.ood, recipe.evaluate.batch_size, data.get("test_sets", ()))
    setting = Setting(recipe, work, data, exam)
    work.ahead(lambda: begin_baselines(setting, task))
    explored = work.do(explore, recipe.explore, teacher=setting.teacher, starts=data.starts)
    teacher, pool = mend(setting, task, explored.frames)
    rounds, voted = iterate(setting, Beginning(task, pool, teacher))

    chosen = work.later(lambda made: setting.student(made[best_of(made)].tuned), rounds)
    best = work.later(best_of, rounds)
    shown = vote(setting, rounds[best]) if recipe.committee.export else None
    handed_out = None if shown is None else Exported(shown.members, shown.calibration)
    learnt = work.later(lambda made: Learnt(made[best_of(made)].begun.task), rounds)
    exported = work.at(name="model", follows=True).do(
        export, student=chosen, iteration=best, committee=handed_out, learnt=learnt
    )

    def no_forget(scope: str) -> Sequence[Round]:
        # weights aside, what the second iteration began with was made before any forgetting
        begun = replace(rounds[1].begun, teacher=teacher, model=rounds[0].tuned.model)
        return iterate(setting, begun, rounds[:1], forgets=False, scope=scope)[0]

    baselines = run_baselines(setting, rounds, teacher, no_forget)
    iterations = {f"iteration-{i}": Contender.iteration(i, r, setting) for i, r in enumerate(rounds)}
    ipip = replace(iterations[f"iteration-{best}"], name="ipip", role="ipip", stage="")
    knows_home = "home_safetensors" in exported.record["outputs"]
    settled = FromHome(exported, rounds[best].begun.pool) if knows_home else None
    return compare(setting, {"ipip": ipip, **baselines, **iterations}, committee=shown or voted, settled=settled)


def iterate(
    setting: Setting, begun: Beginning, rounds: Sequence[Round] = (), *, forgets: bool = True, scope: str = ""
) -> tuple[Sequence[Round], Done | None]:
    """Run the iterations after `rounds`; return all, and the last committee that had a say.

    begun: what the next one begins with. scope: start of the names of its folders.
    """
    recipe, data, voted = setting.recipe, setting.data, None
    zeros = recipe.zeros_of_pretraining(data.e0s_eV)
    starts = recipe.starts_of_students(data.starts)
    for i in range(len(rounds), recipe.iterations):
        here, task, pool = setting.work.at(f"{scope}iter-{i:02d}"), begun.task, begun.pool
        pretrained = here.do(
            pretrain, recipe.pretrain, student=recipe.student, e0s_eV=zeros, model=begun.model, pool=pool
        )
        tuned = here.do(finetune, recipe.finetune, student=recipe.student, model=pretrained.model, task=task, pool=pool)
        student = setting.student(tuned)
        scores = setting.examined(here.scope).do(evaluate, model=Model(student), exam=setting.exam, align=None)
        rounds = [*rounds, Round(here.scope, begun, pretrained, tuned, scores)]
        if i + 1 == recipe.iterations or not still_pays(recipe, rounds):
            break

        walked = here.do(sample, recipe.sample or recipe.explore, student=student, starts=starts, iteration=i)
        trusted = (starts, task.train)
        new = here.do(select, recipe.select, student=student, frames=walked.frames, old=pool, trusted=trusted).frames
        voted = vote(setting, rounds[-1]) if recipe.needs_committee else None
        begun, left = ask_reference(setting, rounds[-1], voted, new)
        wanted = Labelling(recipe.label.policy, recipe.label.retain, recipe.label.relabel)
        teacher = begun.teacher
        labellers = Labellers(student, teacher.entry, opinion_of(voted), data.valid, teacher.correction)
        labelled = here.do(label, wanted=wanted, labellers=labellers, frames=left, old=begun.pool)
        model = here.do(forget, recipe.forget.at(i), student=student).model if forgets else student.model
        begun = replace(begun, pool=labelled.frames, model=model)
    return rounds, voted


def prepare_data(recipe: Recipe, work: Workspace) -> Done:
    """Read, check and split the task's frames; other test frames leave all that has been trained as it is.

    But not where labels were bought with an eye on these.
    """
    data = recipe.data
    return work.at(yields_to=("ood",) if recipe.label.reference else ("ood", "test")).do(
        prepare,
        data,
        train=data.train,
        test=data.test,
        valid=data.valid,
        starts=recipe.explore.starts,
        split_seed=recipe.seed,
        isolated_atoms=data.isolated_atoms,
    )
