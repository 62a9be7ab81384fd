"""The stored result that a miss is compared with: the one that it most likely should have been. Pure.

Names are those of progress, ``[stage 2/5] RUN make``: the stage and place in brackets, then the
instruction. An equal instruction is the best sign; then an edited one in the same place or on the
same parent. What an edited instruction became must not be what another step of the build is: the
line below an inserted one is no edit of it.

A store has thousands of results, a build may have thousands of misses. So the results are put in order
once, by what a near one has in common with a miss, and a miss is held against a bounded number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from pybuild.explain.difference import differences, source_name
from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_list, as_object
from pybuild.model.named import KnownInputs

_NAME = re.compile(
    r"\[(?:(?P<stage>[^\]]*) )?(?P<place>\d+)/(?P<total>\d+)\] (?P<text>.*)", re.DOTALL
)
_SIMILAR = 0.6
_COSTS = {"platform": 3.0, "base": 2.0, "parent": 2.0, "command": 4.0, "source": 3.0, "dest": 3.0}
_CANDIDATES = 200


@dataclass(frozen=True, slots=True)
class StepName:
    """A name taken apart; *text* alone where it has no place."""

    text: str
    stage: str = ""
    place: int = 0
    total: int = 0

    @classmethod
    def parse(cls, name: str) -> StepName:
        match = _NAME.match(name)
        if match is None:
            return cls(name)
        text = match["text"]
        if text.startswith("FROM "):
            text = source_name(name)
        return cls(text, match["stage"] or "", int(match["place"]), int(match["total"]))

    @property
    def verb(self) -> str:
        return self.text.partition(" ")[0]


def like(names: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a name may be that of what is nearest to one of *names*."""
    parsed = [StepName.parse(name) for name in names]
    texts = {one.text for one in parsed}
    places = {(one.stage, one.place, one.verb) for one in parsed if one.place}

    def is_like(name: str) -> bool:
        other = StepName.parse(name)
        return other.text in texts or (other.stage, other.place, other.verb) in places

    return is_like


class _Row(NamedTuple):
    number: int
    known: KnownInputs
    name: StepName


class Neighbours:
    """The stored results that a build's misses are compared with.

    Args:
        known: candidates; of equally near ones the latest wins.
        names: of all vertices of the build.
    """

    def __init__(self, known: Iterable[KnownInputs], names: Iterable[str]) -> None:
        self._texts = {StepName.parse(name).text for name in names}
        self._of_key: dict[str, KnownInputs] = {}
        self._groups: dict[_Group, list[_Row]] = {}
        rows = [_Row(number, one, StepName.parse(one.name)) for number, one in enumerate(known)]
        for row in rows:
            self._of_key.setdefault(row.known.key, row.known)
        rows.sort(key=lambda row: -row.known.first)
        for row in rows:
            for group in _groups(row.name, row.known.parts):
                self._groups.setdefault(group, []).append(row)

    def same(self, key: str | None) -> KnownInputs | None:
        """Return the one that has just this key."""
        return None if key is None else self._of_key.get(key)

    def nearest(self, name: str, parts: Mapping[str, Any]) -> KnownInputs | None:
        """Return the nearest result to a vertex of this name with these *parts*; None: nothing is near."""
        own_name, parent = StepName.parse(name), _parent(parts)
        good: dict[int, tuple[float, _Row]] = {}
        for group in _groups(own_name, parts):
            for row in self._groups.get(group, ())[:_CANDIDATES]:
                if row.number in good:
                    continue
                same_parent = parent == _parent(row.known.parts)
                far = likeness(own_name, row.name, self._texts, same_parent=same_parent)
                if far is not None:
                    good[row.number] = far, row
        # Comparing costs more than looking at names; the best by name are enough.
        best = sorted(
            good.values(), key=lambda pair: (pair[0], -pair[1].known.first, pair[1].number)
        )
        if not best:
            return None
        nearest = min(
            (row for _, row in best[:_CANDIDATES]),
            key=lambda row: (_distance(own_name, row, parts), -row.known.first),
        )
        return nearest.known


_Group = tuple[str, ...]


def _groups(name: StepName, parts: Mapping[str, Any]) -> list[_Group]:
    """Return the groups that near results share, the best first; only of equal kinds any is near."""
    kind = _kind(parts)
    return [
        ("text and stage", kind, name.text, name.stage),
        ("text", kind, name.text),
        ("place", kind, name.verb, name.stage, str(name.place)),
        ("parent", kind, name.verb, _parent(parts)),
    ]


def likeness(
    own_name: StepName, other: StepName, taken: Collection[str], *, same_parent: bool
) -> float | None:
    """Return the distance of two names; None where one is no version of the other.

    Args:
        taken: the texts of the build's own steps; that *own_name* is among them does not matter.
    """
    if own_name.text == other.text:
        return 0.0 if own_name.stage == other.stage else 0.5
    if other.text in taken or own_name.verb != other.verb:
        return None
    in_place = (own_name.stage, own_name.place) == (other.stage, other.place)
    if not in_place and not same_parent:
        return None
    if in_place and own_name.total == other.total:
        return 1.0
    from difflib import SequenceMatcher

    ratio = SequenceMatcher(None, own_name.text[:400], other.text[:400], autojunk=False).ratio()
    return 2.0 if ratio >= _SIMILAR else None


def _distance(own_name: StepName, row: _Row, parts: Mapping[str, Any]) -> float:
    changes = differences(row.known.parts, parts, lambda _: None)
    other = row.name
    cost = sum(_COSTS.get(difference.field, 1.0) for difference in changes)
    cost += 0.5 * (own_name.stage != other.stage) + 0.25 * (own_name.place != other.place)
    return cost + (0.0 if own_name.text == other.text else 2.0)


def _kind(parts: Mapping[str, Any]) -> str:
    return str(as_object(parts.get("op")).get("type"))


def _parent(parts: Mapping[str, Any]) -> str:
    """Return the key of the first input; "" where it has none."""
    inputs = as_list(parts.get("inputs"))
    return str(as_object(inputs[0]).get("key") or "") if inputs else ""
