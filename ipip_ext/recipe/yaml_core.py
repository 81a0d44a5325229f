"""YAML as recipes take it: the core schema of YAML 1.2, plain data alone, and nothing that grows without bound.

PyYAML reads YAML 1.1, in which `no` is false, `1:20` is 80, `010` is 8 and `1e-3` is a word; and its constructors of
dates, binaries and sets raise whatever they meet. Here PyYAML makes the nodes, and this file makes values of them.
Dates are words in YAML 1.2 and none in 1.1; they are refused, since one reader or the other would take them wrongly.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver, Resolver
from yaml.scanner import Scanner

_TAG = "tag:yaml.org,2002:"
_STR, _SEQ, _MAP, _MERGE = (_TAG + name for name in ("str", "seq", "map", "merge"))
_NULL, _BOOL, _INT, _FLOAT = (_TAG + name for name in ("null", "bool", "int", "float"))
_DATE = _TAG + "timestamp"

_SCALARS = {
    _NULL: (re.compile(r"~|null|Null|NULL|"), "~nN"),
    _BOOL: (re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    _INT: (re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), "-+0123456789"),
    _FLOAT: (
        re.compile(
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        "-+.0123456789",
    ),
}
"""Tag -> how a value of it is written, and what its first character may be."""

_DATE_LIKE = re.compile(
    r"\d{4}-\d\d?-\d\d?((?:[Tt]|[ \t]+)\d\d?:\d\d:\d\d(\.\d*)?[ \t]*(Z|[-+]\d\d?(:\d\d)?)?)?\Z", re.ASCII
)
_MOST_CHARACTERS = 300_000
_MOST_VALUES = 100_000
"""After aliases are written out: without a limit nine lines of aliases of aliases are a billion values."""

_DEEPEST = 50
_MOST_DIGITS = 100
"""Of a number; Python itself refuses some thousands, when reading or, worse, when writing."""


class NotYaml(ValueError):
    """A text that is no YAML of ours. problem: with its remedy. line: where, counted from 1; None if it isn't known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


def read(text: str, *, as_before: bool = False) -> Any:
    """Return the value of a text, with aliases and merge keys (`<<`) written out: a tree of dicts, lists and scalars.

    as_before: what YAML 1.1 takes for a word stays one, such as 1e-3 and 08. So PyYAML wrote what PyYAML reads.
    Raises NotYaml for a text that can't be read, a key that stands twice, dates, tags such as !!python or !!binary, an
    alias of what it stands in, and for too many characters, values, levels or digits.
    """
    if len(text) > _MOST_CHARACTERS:
        raise NotYaml(f"is longer than {_MOST_CHARACTERS} characters; shorten it")
    try:
        node = _Nodes(text, as_before=as_before).get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
        raise NotYaml(f"not YAML ({problem}); check the indent", mark.line + 1 if mark else None) from None
    except RecursionError:
        raise NotYaml("is nested too deeply; check its brackets") from None
    except (ValueError, OverflowError):  # of PyYAML's scanner, for escapes such as "\UFFFFFFFF"
        raise NotYaml("not YAML (an escape that is no character); check what stands behind backslashes") from None
    return None if node is None else _Values().of(node)


def write(value: Any, **layout: Any) -> str:
    """Return YAML of plain data, which YAML 1.1 and 1.2 read alike. layout: options of `yaml.dump`."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, **layout))


class _Core(BaseResolver):
    """What a plain scalar is in YAML 1.2's core schema."""


for _tag, (_pattern, _firsts) in _SCALARS.items():
    _Core.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern.pattern})\\Z"), [*_firsts, *([""] * (_tag == _NULL))])
_Core.add_implicit_resolver(_MERGE, re.compile(r"<<\Z"), ["<"])
_Core.add_implicit_resolver(_DATE, _DATE_LIKE, list("0123456789"))


class _Nodes(Reader, Scanner, Parser, Composer, _Core):
    """PyYAML's nodes of a text, their scalars told apart as YAML 1.2 does."""

    def __init__(self, text: str, *, as_before: bool) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Core.__init__(self)
        self._then = Resolver() if as_before else None

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> Any:
        """Return the tag of a node that has none."""
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if tag not in (_INT, _FLOAT) or self._then is None:
            return tag
        return _STR if self._then.resolve(kind, value, implicit) == _STR else tag  # type: ignore[no-untyped-call]


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which also puts words in quotes that only YAML 1.2 would take for numbers."""

    core = _Core()

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> Any:
        """Return the tag of a node that has none: what is a word to one of the two and none to the other is no word."""
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return self.core.resolve(kind, value, implicit) if tag == _STR else tag  # type: ignore[no-untyped-call]


class _Values:
    """The values of nodes. An alias is written out each time, so what comes of it is a tree."""

    def __init__(self) -> None:
        self._n_values = 0
        self._above: list[Node] = []

    def of(self, node: Node) -> Any:
        """Return the value of a node. Raises NotYaml."""
        line = node.start_mark.line + 1
        self._n_values += 1
        if self._n_values > _MOST_VALUES:
            raise NotYaml(f"holds more than {_MOST_VALUES} values, with aliases written out; shorten it")
        if isinstance(node, ScalarNode):
            return _scalar(node, line)
        if any(node is one for one in self._above):
            raise NotYaml("holds an alias of what it stands in; write it out", line)
        if len(self._above) >= _DEEPEST:
            raise NotYaml("is nested too deeply; check its brackets", line)
        self._above.append(node)
        value = self._mapping(node) if isinstance(node, MappingNode) else self._sequence(node, line)
        self._above.pop()
        return value

    def _sequence(self, node: Node, line: int) -> list[Any]:
        if node.tag != _SEQ:
            raise NotYaml(f"the tag {_short(node.tag)} is unknown; leave it out", line)
        return [self.of(item) for item in node.value]

    def _mapping(self, node: MappingNode) -> dict[Any, Any]:
        if node.tag != _MAP:
            raise NotYaml(f"the tag {_short(node.tag)} is unknown; leave it out", node.start_mark.line + 1)
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        seen = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise NotYaml("a key must be a word; check its brackets", line)
            if key_node.value in seen:
                raise NotYaml(f"key {key_node.value[:40]} stands twice; take one of them out", line)
            seen.add(key_node.value)
            if key_node.tag == _MERGE:
                merged = self._merged(value_node, line)
                continue
            key = self.of(key_node)
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise NotYaml("a key must be a word; put it in quotes", line)
            own[key] = self.of(value_node)
        return merged | own

    def _merged(self, node: Node, line: int) -> dict[Any, Any]:
        """Return what a merge key brings; of several sections the first counts."""
        sections = node.value if isinstance(node, SequenceNode) else [node]
        found: dict[Any, Any] = {}
        for section in sections:
            value = self.of(section) if isinstance(section, MappingNode) else None
            if not isinstance(value, dict):
                raise NotYaml("<< takes a section or a list of them, such as <<: *base", line)
            found = value | found
        return found


def _scalar(node: ScalarNode, line: int) -> str | int | float | bool | None:
    text, tag = str(node.value), _STR if node.tag in ("!", _MERGE) else node.tag
    if tag == _STR:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise NotYaml("holds half a character (a surrogate); take it out", line)
        return text
    if tag == _DATE:
        raise NotYaml(f"{_short(text)} would be a date; put it in quotes", line)
    if tag not in _SCALARS:
        raise NotYaml(f"the tag {_short(tag)} is unknown; leave it out", line)
    if not _SCALARS[tag][0].fullmatch(text):
        raise NotYaml(f"{_short(text)} is no {tag.removeprefix(_TAG)}; leave its tag out", line)
    if tag == _NULL:
        return None
    if tag == _BOOL:
        return text.lower() == "true"
    if len(text) > _MOST_DIGITS:
        raise NotYaml(f"holds a number of {len(text)} digits; shorten it", line)
    if tag == _INT:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))


def _short(text: str) -> str:
    said = text.replace(_TAG, "!!")
    return repr(said if len(said) <= 40 else f"{said[:37]}...")
