"""Builds by chance, the same for the same seed, that check what they are made of.

Each build is a chain of steps out of few, so that builds share beginnings; some copy from another
stage, some use a cache mount, some keep their image. The last step never comes from the cache: it
compares every file that the steps before it made, here or in another builder, with its digest.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHOICES, DEPTH, CONTEXT_FILES, SLOTS = 5, 5, 8, 6


@dataclass(frozen=True, slots=True)
class Plan:
    """One build.

    Attributes:
        tag: the name that its image gets; empty: nothing is kept.
        too_large: it cannot end well.
    """

    dockerfile: bytes
    tag: str
    too_large: bool


class Plans:
    """The builds that there are.

    Args:
        unit: bytes that scale everything that they write.
        ceiling: bytes; builds that are too large write more than that.
    """

    def __init__(self, seed: int, unit: int, ceiling: int) -> None:
        self._seed = seed
        self._unit = unit
        self._ceiling = ceiling

    def context(self, where: Path) -> Path:
        """Write the files that builds copy; nothing compresses them."""
        where.mkdir(parents=True)
        for number in range(CONTEXT_FILES):
            data = random.Random(f"{self._seed} {number}").randbytes(self._unit // 2)
            (where / f"r{number}").write_bytes(data)
        return where

    def plan(self, number: int) -> Plan:
        """Return build *number*."""
        chance = random.Random(f"{self._seed} build {number}")
        lines = ["FROM base AS other", "FROM base"]
        sums: dict[str, str] = {}
        if chance.random() < 0.3:
            name = f"o{chance.randrange(CHOICES)}"
            lines.insert(1, self._make(name, sums))
            lines.append(f"COPY --from=other /files/{name} /files/{name}")
        for level in range(chance.randint(1, DEPTH)):
            lines.append(self._make(f"f{level}{chance.randrange(CHOICES)}", sums))
        if chance.random() < 0.4:
            which = chance.randrange(CONTEXT_FILES)
            data = random.Random(f"{self._seed} {which}").randbytes(self._unit // 2)
            sums[f"r{which}"] = hashlib.sha256(data).hexdigest()
            lines.append(f"COPY r{which} /files/r{which}")
        if chance.random() < 0.2:
            lines.append(self._cached(chance.randrange(3), number))
        too_large = chance.random() < 0.004
        if too_large:
            lines.append(f"RUN yes | head -c {self._ceiling * 3 // 2} > /large")
        listed = "".join(f"{digest}  /files/{name}\\n" for name, digest in sorted(sums.items()))
        lines.append(f"RUN printf '{listed}' | sha256sum -c -s && echo {number} > /number")
        tag = f"kept:{chance.randrange(SLOTS)}" if chance.random() < 0.25 else ""
        return Plan("\n".join([*lines, ""]).encode(), tag, too_large)

    def _make(self, name: str, sums: dict[str, str]) -> str:
        size = int(self._unit * 10 ** random.Random(f"{self._seed} {name}").uniform(-2, 0.7))
        sums[name] = _digest(f"{self._seed}{name}", size)
        return f"RUN yes {self._seed}{name} | head -c {size} > /files/{name}"

    def _cached(self, which: int, number: int) -> str:
        """A step that adds to a cache, and checks that each file in it is whole."""
        size = self._unit // 4
        return (
            f"RUN --mount=type=cache,id=c{which},sharing=locked,target=/c "
            "for f in /c/*.sum; do [ ! -e $f ] || sha256sum -c -s $f || exit 1; done; "
            f"yes {number} | head -c {size} > /c/{number % 4} && "
            f"sha256sum /c/{number % 4} > /c/{number % 4}.sum"
        )


@cache
def _digest(word: str, size: int) -> str:
    line = f"{word}\n".encode()
    block = line * (1 << 12)
    whole, rest = divmod(size, len(block))
    found = hashlib.sha256()
    for _ in range(whole):
        found.update(block)
    found.update(block[:rest])
    return found.hexdigest()
