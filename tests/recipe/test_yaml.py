"""YAML as recipes take it: version 1.2, nothing but plain data, and one line for whatever is wrong."""

from __future__ import annotations

import io
import math
import string
import tarfile
from pathlib import Path

import pytest
import yaml
from alloy import assert_refused, tiny_recipe, write_recipe
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipip_ext.errors import RecipeError
from ipip_ext.recipe.file import dump_recipe, load_recipe, read_own
from ipip_ext.recipe.yaml_core import NotYaml, read, write

OLD_RUN = Path(__file__).parents[1] / "fixtures/run_0.1.0.tar.xz"


# ---------------------------------------------------------------- what a scalar is


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:20", "1:20"), ("190:20:30", "190:20:30"), ("010", 10), ("-010", -10), ("0o10", 8), ("0x1F", 31),
        ("1_000", "1_000"), ("0b11", "0b11"), ("08", 8), ("+5", 5), ("1e-3", 0.001), ("1E5", 1e5), ("1.5e3", 1500.0),
        (".5", 0.5), ("1.", 1.0), (".", "."), ("-.inf", -math.inf), ("1e400", math.inf),
        ("no", "no"), ("No", "No"), ("yes", "yes"), ("on", "on"), ("OFF", "OFF"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True), ("~", None), ("null", None), ("", None), ("Null", None),
        ("=", "="), ("<<", "<<"), ("'08'", "08"), ("'2024-01-01'", "2024-01-01"), ("!!str 5", "5"), ("!!float 5", 5.0),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = read(f"[{text}]") if text else [read("")]
    assert found == [value]
    assert type(found[0]) is type(value)


def test_nan_is_a_number():
    assert math.isnan(read(".NaN"))


def test_elements_and_answers_are_words(tmp_path, alloy_data):
    path = write_recipe(tmp_path, alloy_data)
    recipe = load_recipe(path, ["data.split_keys=[No, yes, on]", "data.ood.values=[no, 1:20]", "seed=010"])
    assert recipe.data.split_keys == ("No", "yes", "on")
    assert recipe.data.ood.values == ("no", "1:20")
    assert recipe.seed == 10
    for word in ("no", "off", "0", "'true'"):
        with pytest.raises(RecipeError, match=r"parallel: must be true or false"):
            load_recipe(path, [f"parallel={word}"])
    with pytest.raises(RecipeError, match=r"finetune\.epochs: must be a valid integer, not '1:20'"):
        load_recipe(path, ["finetune.epochs=1:20"])
    with pytest.raises(RecipeError, match=r"finetune: epochs must be no truth value"):
        load_recipe(path, ["finetune.epochs=true"])
    assert load_recipe(path, ["finetune.lr=1e-3"]).finetune.lr == 0.001


def test_anchors_and_merge_keys_are_written_out():
    text = "a: &a {x: 1, y: [1]}\nb: {<<: *a, x: 2}\nc: {<<: [{z: 0}, *a, {z: 5, w: 6}], y: 3}\nd: *a\n"
    found = read(text)
    assert found == yaml.safe_load(text)
    assert found["d"] is not found["a"]


# ---------------------------------------------------------------- what is refused


def laughs(merge: bool) -> str:
    """Nine sections of ten aliases each."""
    line = "{{<<: [{0}]}}" if merge else "[{0}]"
    first = "a0: &a0 {x: 1}" if merge else "a0: &a0 [x]"
    return "\n".join([first, *(f"a{i}: &a{i} {line.format(', '.join([f'*a{i - 1}'] * 10))}" for i in range(1, 10))])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: 2024-02-30", 1, "would be a date"),
        ("a: 1\nb: 2001-12-14t21:59:43.10-05:00", 2, "would be a date"),
        ("a: 1\nb: !!int five", 2, "'five' is no int"),
        ("a: !!bool maybe", 1, "'maybe' is no bool"),
        ("a: !!timestamp now", 1, "would be a date"),
        ("a: !!binary aGk", 1, "tag '!!binary' is unknown"),
        ("a: !!binary [", 1, "not YAML"),
        ("a: !!set {b, c}", 1, "tag '!!set' is unknown"),
        ("a: !!omap [b: 1]", 1, "tag '!!omap' is unknown"),
        ("a: !!python/object/apply:os.getcwd []", 1, "is unknown"),
        ("a: !mine 3", 1, "tag '!mine' is unknown"),
        ("a: " + "9" * 5000, 1, "number of 5000 digits"),
        ("a: 0x" + "F" * 4000, 1, "number of 4002 digits"),
        ("a: &a [*a]", 1, "alias of what it stands in"),
        ("a: &a {b: *a}", 1, "alias of what it stands in"),
        ("a: *nowhere", 1, "undefined alias"),
        ("<<: 3", 1, "<< takes a section"),
        ("a: 1\n<<: [3]", 2, "<< takes a section"),
        ("a: 1\na: 2", 2, "a stands twice"),
        ("? [a]\n: 1", 1, "a key must be a word"),
        ("true: 1", 1, "a key must be a word"),
        ("2024-01-01: 1", 1, "would be a date"),
        ('a: "\\UFFFFFFFF"', None, "escape that is no character"),
        ('a: "\\ud800"', 1, "surrogate"),
        ("a: " + "[" * 60 + "]" * 60, 1, "nested too deeply"),
        ("[" * 100_000, None, "nested too deeply"),
        ("a" * 400_000, None, "longer than"),
        (laughs(merge=False), None, "more than 100000 values"),
        (laughs(merge=True), None, "more than 100000 values"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_line(text, line, words):
    with pytest.raises(NotYaml, match=words) as caught:
        read(text)
    assert caught.value.line == line


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_command_line_says_it_in_one_line(tmp_path, alloy_data, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    text = write_recipe(tmp_path, alloy_data).read_text()
    Path("date.yaml").write_text(text.replace("name: tiny", "name: 2024-02-30"))
    Path("digits.yaml").write_text(text.replace("seed: 3", f"seed: {'9' * 5000}"))
    Path("tag.yaml").write_text(text.replace("seed: 3", "seed: !!int five"))
    Path("laughs.yaml").write_text(text + laughs(merge=False).replace("a0: ", "kwargs: ", 1))
    assert_refused(("date.yaml: line 1: ", "date", "quotes"), command, "date.yaml")
    assert_refused(("digits.yaml: line 2: ", "number of 5000 digits"), command, "digits.yaml")
    assert_refused(("tag.yaml: line 2: ", "'five' is no int"), command, "tag.yaml")
    assert_refused(("laughs.yaml: holds more than 100000 values",), command, "laughs.yaml")
    assert_refused(
        ("--set name=2024-02-30: '2024-02-30' is not a YAML value",), command, "recipe.yaml", "--set", "name=2024-02-30"
    )


def test_a_calculator_entry_of_the_command_line_is_read_alike(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = alloy_data / "test.extxyz"
    assert_refused(("2024-02-30: no such file or folder",), "evaluate", "2024-02-30", test)
    assert_refused(("no such file or folder",), "evaluate", "{xtb: !!int five}", test)
    assert_refused(("Did you mean GFN1-xTB?",), "evaluate", "{xtb: GFN1-xTBB}", test)


# ---------------------------------------------------------------- whatever stands there

WEIRD = st.sampled_from([
    "2024-02-30", "2024-02-30 25:61:61", "!!int five", "!!float x", "!!binary =", "!!timestamp now", "!!bool maybe",
    "!!null x", "!!set {a}", "!!omap [a]", "!!pairs [a]", "!!python/name:os.system", "0x", "0o9", "1_", "1:99:99", "=",
    "<<", "{<<: 1}", "{<<: [1]}", "{<<: {a: 1}}", "&a [*a]", "&a {b: *a}", "*a", "&a", "!", "!!", "!<>", "!<tag:x>",
    ".inf", "-.INF", ".nan", "1e999", "-1e999", "1e-999", "9" * 200, "-" + "9" * 5000, "0x" + "f" * 5000, "'", '"',
    '"\\UFFFFFFFF"', '"\\xZZ"', '"\\ud800"', "|", ">9", "|+\n x", "%", "@", "`", "- a", "? a", "a: b: c", "[", "}",
    "{a", "[1, 2", "\t", "\u0085", "\ufeff", "\x00", "\u2028", "#", "null", "~", "true", "yes", "010", "1e5", "{1: 2}",
    "{~: 1}", "{true: 1}", "{1.5: 1}", "{[1]: 2}", "[[[[[[]]]]]]", "{a: {b: {c: {d: 1}}}}",
])  # fmt: skip
TEXT = st.text(st.sampled_from(string.digits + string.ascii_letters + "!&*<>[]{}:,-+.#%@'\"\\|?=~ \t\n_é\u2028"))
SCALARS = WEIRD | TEXT | st.text(max_size=20)
KEYS = (
    "name", "seed", "threads", "parallel", "iterations", "min_improvement", "data", "data.train", "data.e0s",
    "data.ood",
    "data.split_keys", "teacher", "teacher.kwargs", "student", "student.hidden_irreps", "student.radial_MLP", "explore",
    "explore.starts", "explore.temperatures_K", "explore.guard", "sample", "pretrain.source_weights", "finetune.lr",
    "finetune.lr_factors", "forget", "forget.groups", "forget.keep", "label.reference", "baselines", "baselines.0",
    "baselines.scratch.fit.epochs", "evaluate.speed_start", "evaluate.speed_supercell", "evaluate.stability.models",
    "tracking.uri", "nothing", "",
)  # fmt: skip
MANY = settings(
    deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def loaded_or_refused(path: Path, *overrides: str) -> None:
    """A recipe is refused in one line, or comes back from what a run would write of it."""
    try:
        recipe = load_recipe(path, overrides)
    except RecipeError as error:
        assert str(error)
        return
    written = dump_recipe(recipe)
    path.with_name("again.yaml").write_text(written, encoding="utf-8")
    again = load_recipe(path.with_name("again.yaml"))
    assert dump_recipe(again) == written


@MANY
@given(key=st.sampled_from(KEYS), text=SCALARS)
@example(key="name", text="2024-02-30")
def test_set_takes_or_refuses_any_text(tmp_path, key, text):
    loaded_or_refused(write_recipe(tmp_path, Path("data")), f"{key}={text}")


@MANY
@given(text=SCALARS, line=st.integers(0, 40))
def test_a_recipe_takes_or_refuses_any_scalar(tmp_path, text, line):
    lines = yaml.safe_dump(tiny_recipe(Path("data")), sort_keys=False).splitlines()
    line = line % len(lines)
    key, colon, _ = lines[line].partition(":")
    lines[line] = f"{key}{colon} {text}"
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    loaded_or_refused(path)


@MANY
@given(text=SCALARS)
def test_any_text_is_read_or_refused(text):
    for as_before in (False, True):
        try:
            read(text, as_before=as_before)
        except NotYaml as error:
            assert error.problem


WORDS = st.text(st.characters(exclude_categories=["Cs"])) | WEIRD.filter(lambda text: "\x00" not in text)
KEYS_OF_ANY = st.text(string.ascii_letters, min_size=1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS_OF_ANY, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@MANY
@given(value=PLAIN)
@example(value=["1e-3", "08", "0o17", "no", "1:20", "010", "2024-01-01", "=", "<<", "~"])
def test_what_is_written_is_read_alike_by_both_versions(value):
    text = write(value, width=100)
    assert read(text) == read(text, as_before=True) == yaml.safe_load(text) == value


# ---------------------------------------------------------------- what a run has written


def test_the_recipe_of_an_older_run_reads_as_it_was_meant():
    with tarfile.open(OLD_RUN) as archive:
        names = [name for name in archive.getnames() if name.endswith("recipe.yaml")]
        texts = [io.TextIOWrapper(archive.extractfile(name), "utf-8").read() for name in names]
    assert len(texts) == 2
    for text in texts:
        assert read(text) == read_own(text) == yaml.safe_load(text)


@pytest.mark.parametrize("head", ["", "# seeds 0, 1\n# finetune.lr=0.1\n"])
def test_words_that_an_older_run_has_written_stay_words(tmp_path, alloy_data, head):
    """Then `tol: 1e-3` was a word to the calculator, and a start could be called 08; what stands there is not ours."""
    path = write_recipe(tmp_path, alloy_data, teacher={"python": "a:b", "kwargs": {"tol": "1e-3", "mode": "0o7"}})
    recipe = load_recipe(path, ["data.ood.values=['08', '1e5']", "teacher.kwargs={tol: '1e-3', mode: '0o7'}"])
    older = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100)
    assert "tol: 1e-3\n" in older
    path.write_text(head + older)
    again = load_recipe(path)
    assert again.teacher["kwargs"] == {"tol": "1e-3", "mode": "0o7"}
    assert again.data.ood.values == ("08", "1e5")
    assert read_own(older)["teacher"]["kwargs"]["tol"] == "1e-3"
    path.write_text(
        older.replace("seed: 3\n", "seed: 3  # by hand\n").replace("- 08\n", "- '08'\n").replace("- 1e5", "- x")
    )
    assert load_recipe(path).teacher["kwargs"] == {"tol": 0.001, "mode": 7}
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path).model_dump() == recipe.model_dump()
