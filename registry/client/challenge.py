"""``WWW-Authenticate`` and token scopes as values [REG-5]; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pybuild.model.dataclass import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(
    rf"[\s,]*(?:(?P<key>{_TOKEN})\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>{_TOKEN}))"
    rf"|(?P<scheme>{_TOKEN})(?=\s|,|\Z))"
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to prove oneself; *scheme* and the keys of *parameters* are lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read all challenges of all headers; reading stops where one makes no sense."""
    challenges: list[Challenge] = []
    for header in headers:
        parameters: dict[str, str] | None = None
        position = 0
        while match := _PART.match(header, position):
            position = match.end()
            if match["scheme"]:
                parameters = {}
                challenges.append(Challenge(match["scheme"].lower(), parameters))
            elif parameters is None:
                break
            else:
                value = match["bare"] or re.sub(r"\\(.)", r"\1", match["quoted"] or "")
                parameters.setdefault(match["key"].lower(), value)
    return challenges


@dataclass(frozen=True, slots=True)
class Scopes:
    """The rights of a token: sorted (resource, actions), as ``("repository:a/b", {"pull"})``."""

    grants: tuple[tuple[str, frozenset[str]], ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> Scopes:
        """Read scopes as ``repository:a/b:pull,push``; several may stand in one, with spaces."""
        merged: dict[str, frozenset[str]] = {}
        for text in texts:
            for scope in text.split():
                resource, _, actions = scope.rpartition(":")
                if resource:
                    allowed = frozenset(filter(None, actions.split(",")))
                    merged[resource] = merged.get(resource, frozenset()) | allowed
        return cls(tuple(sorted(merged.items())))

    def __or__(self, other: Scopes) -> Scopes:
        return Scopes.parse(*self.texts(), *other.texts())

    def covers(self, other: Scopes) -> bool:
        """Whether a token for these scopes also serves *other*."""
        mine = dict(self.grants)
        return all(actions <= mine.get(resource, frozenset()) for resource, actions in other.grants)

    def texts(self) -> list[str]:
        """One text a resource, merged and sorted."""
        return [f"{resource}:{','.join(sorted(actions))}" for resource, actions in self.grants]


def pull_scope(path: str) -> Scopes:
    return Scopes.parse(f"repository:{path}:pull")


def delete_scope(path: str) -> Scopes:
    return Scopes.parse(f"repository:{path}:pull,push,delete")


def push_scope(path: str, mount_from: str | None = None) -> Scopes:
    """Push to *path*; reading *mount_from* as well when a blob is to be mounted from there."""
    scopes = Scopes.parse(f"repository:{path}:pull,push")
    return scopes | pull_scope(mount_from) if mount_from else scopes
