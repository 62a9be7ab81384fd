"""Which stored result a miss is compared with: the one that it most likely should have been. Pure.

Names are those of progress, ``[stage 2/5] RUN make``: the stage and place in brackets, then the
instruction. An equal instruction is the best sign; then an edited one in the same place or on the
same parent. What an edited instruction became must not be what another step of the build is: the
line below an inserted one is no edit of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from pybuild.cache.jsontext import as_list, as_object
from pybuild.model.dataclass import dataclass
from pybuild.model.named import KnownInputs
from pybuild.solver.difference import differences, source_name

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
        found = _NAME.match(name)
        if found is None:
            return cls(name)
        text = found["text"]
        if text.startswith("FROM "):
            text = source_name(name)
        return cls(text, found["stage"] or "", int(found["place"]), int(found["total"]))

    @property
    def verb(self) -> str:
        return self.text.partition(" ")[0]


# A store has thousands of names, and each miss of a build is held against all of them.
_parsed = lru_cache(maxsize=1 << 14)(StepName.parse)


def like(names: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a name may be that of what is nearest to one of *names*."""
    parsed = [StepName.parse(name) for name in names]
    texts = {one.text for one in parsed}
    places = {(one.stage, one.place, one.verb) for one in parsed if one.place}

    def is_like(name: str) -> bool:
        other = StepName.parse(name)
        return other.text in texts or (other.stage, other.place, other.verb) in places

    return is_like


def nearest(
    name: str,
    parts: Mapping[str, Any],
    known: Iterable[KnownInputs],
    names: Collection[str],
) -> KnownInputs | None:
    """Return what is nearest to a vertex of this name that is made of *parts*; None: nothing is.

    Args:
        known: candidates; of equally near ones the latest wins.
        names: of all vertices of the build.
    """
    mine = StepName.parse(name)
    taken = {StepName.parse(other).text for other in names} - {mine.text}
    kind, parent = _kind(parts), _parent(parts)
    good: list[tuple[float, KnownInputs]] = []
    for one in known:
        if _kind(one.parts) != kind:
            continue
        other = _parsed(one.name)
        likeness = _likeness(mine, other, taken, same_parent=parent == _parent(one.parts))
        if likeness is not None:
            good.append((likeness, one))
    # Comparing costs more than looking at names; the best by name are enough.
    good.sort(key=lambda pair: (pair[0], -pair[1].first))
    if not good:
        return None
    return min(
        (one for _, one in good[:_CANDIDATES]),
        key=lambda one: (_distance(mine, one, parts), -one.first),
    )


def _likeness(
    mine: StepName, other: StepName, taken: set[str], *, same_parent: bool
) -> float | None:
    """Return how far apart two names are; None where one is no version of the other."""
    if mine.text == other.text:
        return 0.0 if mine.stage == other.stage else 0.5
    if other.text in taken or mine.verb != other.verb:
        return None
    in_place = (mine.stage, mine.place) == (other.stage, other.place)
    if not in_place and not same_parent:
        return None
    if in_place and mine.total == other.total:
        return 1.0
    from difflib import SequenceMatcher

    ratio = SequenceMatcher(None, mine.text[:400], other.text[:400], autojunk=False).ratio()
    return 2.0 if ratio >= _SIMILAR else None


def _distance(mine: StepName, one: KnownInputs, parts: Mapping[str, Any]) -> float:
    found = differences(one.parts, parts, lambda _: None)
    other = StepName.parse(one.name)
    cost = sum(_COSTS.get(difference.field, 1.0) for difference in found)
    cost += 0.5 * (mine.stage != other.stage) + 0.25 * (mine.place != other.place)
    return cost + (0.0 if mine.text == other.text else 2.0)


def _kind(parts: Mapping[str, Any]) -> str:
    return str(as_object(parts.get("op")).get("type"))


def _parent(parts: Mapping[str, Any]) -> object:
    inputs = as_list(parts.get("inputs"))
    return as_object(inputs[0]).get("key") if inputs else None
