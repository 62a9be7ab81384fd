"""``semvercmp``: whether a version is one of those that a constraint names."""

from __future__ import annotations

import re
from collections.abc import Callable

from pybuild.bake.hcl.values import ValueProblem
from pybuild.model.dataclass import dataclass

_NUMBER = r"(?:\d+|[xX*])"
_VERSION = re.compile(
    rf"v?(?P<major>{_NUMBER})(?:\.(?P<minor>{_NUMBER}))?(?:\.(?P<patch>{_NUMBER}))?"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_SIGN = re.compile(r"(?P<sign>=<|=>|<=|>=|!=|[=<>~^]|~>)?\s*(?P<version>\S+)")
_RANGE = re.compile(r"(\S+)\s+-\s+(\S+)")
_WILD = ("x", "X", "*", None)


@dataclass(frozen=True, slots=True)
class Version:
    """A version; *known*: how many of its three numbers were written."""

    numbers: tuple[int, int, int]
    pre: tuple[str, ...]
    known: int

    @classmethod
    def parse(cls, text: str, *, partial: bool) -> Version:
        """Read a version; in a *partial* one numbers may be missing, or ``x``.

        Raises:
            ValueProblem: it is none.
        """
        match = _VERSION.fullmatch(text)
        parts = [match["major"], match["minor"], match["patch"]] if match else []
        known = next((at for at, part in enumerate(parts) if part in _WILD), 3)
        if match is None or (not partial and any(part in ("x", "X", "*") for part in parts)):
            raise ValueProblem(f'invalid semantic version "{text}"')
        numbers = [0 if part in _WILD else int(part) for part in parts]
        pre = tuple((match["pre"] or "").split(".")) if match["pre"] else ()
        return cls((numbers[0], numbers[1], numbers[2]), pre, known)

    def next(self, at: int) -> Version:
        """Return the version in which the number at that place is one more."""
        numbers = [*self.numbers[:at], self.numbers[at] + 1, 0, 0][:3]
        return Version((numbers[0], numbers[1], numbers[2]), (), 3)


def _compare(one: Version, other: Version) -> int:
    if one.numbers != other.numbers:
        return 1 if one.numbers > other.numbers else -1
    if not one.pre or not other.pre:
        return bool(other.pre) - bool(one.pre)
    for left, right in zip(one.pre, other.pre, strict=False):
        if left != right:
            return _compare_words(left, right)
    return len(one.pre) - len(other.pre)


def _compare_words(left: str, right: str) -> int:
    if left.isdigit() and right.isdigit():
        return int(left) - int(right)
    if left.isdigit() != right.isdigit():
        return -1 if left.isdigit() else 1
    return 1 if left > right else -1


def _between(least: Version, below: Version) -> Callable[[Version], bool]:
    return lambda version: _compare(least, version) <= 0 and _compare(version, below) < 0


def _caret(of: Version) -> Version:
    """Return the first version that ``^`` no longer allows."""
    for at in range(of.known):
        if of.numbers[at] or at == of.known - 1:
            return of.next(at)
    return of.next(0)


def _one(sign: str, of: Version) -> Callable[[Version], bool]:
    if of.known == 0:
        return lambda version: sign != "!="
    whole = of.known == 3
    above = of.next(max(0, of.known - 1))
    match sign:
        case "" | "=":
            return (lambda version: _compare(version, of) == 0) if whole else _between(of, above)
        case "!=":
            equal = _one("=", of)
            return lambda version: not equal(version)
        case ">":
            return lambda version: (
                _compare(version, of) > 0 if whole else _compare(version, above) >= 0
            )
        case "<":
            return lambda version: _compare(version, of) < 0
        case ">=" | "=>":
            return lambda version: _compare(version, of) >= 0
        case "<=" | "=<":
            return lambda version: (
                _compare(version, of) <= 0 if whole else _compare(version, above) < 0
            )
        case "^":
            return _between(of, _caret(of))
        case _:
            return _between(of, of.next(0 if of.known == 1 else 1))


def satisfies(version: str, constraint: str) -> bool:
    """Whether *version* is one that *constraint* allows: ``>= 1.2, < 2 || ^3``.

    Raises:
        ValueProblem: one of them cannot be read.
    """
    of = Version.parse(version, partial=False)
    return any(_all(of, part.strip()) for part in constraint.split("||"))


def _all(version: Version, constraint: str) -> bool:
    constraint = _RANGE.sub(r">=\1 <=\2", constraint)
    constraint = re.sub(r"([=<>!~^])\s+", r"\1", constraint)
    words = [word for word in re.split(r"[,\s]+(?=[=<>!~^\dvxX*])", constraint) if word]
    if not words:
        raise ValueProblem(f'improper constraint: "{constraint}"')
    for word in words:
        match = _SIGN.fullmatch(word.strip())
        if match is None:
            raise ValueProblem(f'improper constraint: "{constraint}"')
        of = Version.parse(match["version"], partial=True)
        if version.pre and not of.pre:
            return False  # a pre-release is meant only where one is written
        if not _one(match["sign"] or "", of)(version):
            return False
    return True
