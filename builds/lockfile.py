"""The lock file: the content that sources had when they were looked at, and the rules that hold builds to it.

It is JSON, one line for each source, sorted, so that a change of it can be reviewed. Sources are called as
source policies call them, and the rules are such a policy: servers hold to it as this process does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from pybuild.cache.disk.plainfile import plain
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.jsontext import as_object, loads
from pybuild.model.policy import (
    Action,
    Constraint,
    MatchType,
    Policies,
    Policy,
    Rule,
    Selector,
    Update,
)
from pybuild.model.reference import Reference

NAME = "pybuild.lock"
IMAGE, GIT = "docker-image://", "git://"
_KINDS = (IMAGE, GIT, "http://", "https://")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_COMMIT = re.compile(r"(?:\S+#)?(?:[0-9a-f]{40}|[0-9a-f]{64})")
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Lock:
    """Locked sources.

    Attributes:
        sources: by identifier: the digest of an image or a file; the commit of a repository, after its
            URL and ``#`` where that is not the identifier's with https.
    """

    sources: Mapping[str, str]

    def text(self) -> str:
        """Return the file."""
        document = {"version": 1, "sources": dict(sorted(self.sources.items()))}
        return json.dumps(document, indent=2) + "\n"

    def policy(self, name: str) -> Policy:
        """Return the rules that take of each source what is locked, and refuse all others.

        Args:
            name: of the file, for errors.
        """
        rules = [Rule(Action.DENY, Selector(f"{kind}*")) for kind in _KINDS]
        for identifier, content in self.sources.items():
            rules += _rules(identifier, content)
        return Policy(tuple(rules), lock=name)


def read_lock(path: str) -> Lock:
    """Return the lock file *path*.

    Raises:
        UsageError: there is none, or it cannot be understood.
    """
    try:
        with open(path, "rb", opener=plain) as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no lock file {path}", hints=["pybuild lock writes it"]
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read lock file {path}: {reason}") from error
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB")
        return _parsed(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"lock file {path}: {error}", hints=["pybuild lock writes it anew"]
        ) from error


def lock_path(context: str, path: str) -> str:
    """Return the lock file of a build: *path* if that is given, else in the context's directory."""
    if path or not os.path.isdir(context):
        return path or NAME
    return os.path.join(context, NAME)


def locked_policies(context: str, path: str, other: str = "") -> Policies:
    """Return the rules of a build's lock file.

    Raises:
        UsageError: there is none, or there are *other* rules, whose say would come after these.
    """
    if other:
        raise UsageError(
            f"--locked and the source policy {other}: one of them",
            hints=["pybuild lock writes down what the policy makes of sources"],
        )
    name = lock_path(context, path)
    return Policies((read_lock(name).policy(name),))


def changes(before: Lock, after: Lock) -> list[str]:
    """Return the differences of two locks, a line for each source."""
    lines: list[str] = []
    for name in sorted({*before.sources, *after.sources}):
        old, new = before.sources.get(name), after.sources.get(name)
        if old is None:
            lines.append(f"+ {name} {new}")
        elif new is None:
            lines.append(f"- {name} {old}")
        elif old != new:
            lines.append(f"~ {name} {old} -> {new}")
    return lines


def _parsed(data: bytes) -> Lock:
    document = as_object(loads(data))
    if document.get("version") != 1:
        raise ValueError(f"version {document.get('version')!r}: only 1 is known")
    sources = as_object(document.get("sources"))
    for identifier, content in sources.items():
        if not identifier.startswith(_KINDS):
            raise ValueError(f'"{identifier}" is no source that can be locked')
        form = _COMMIT if identifier.startswith(GIT) else _DIGEST
        if not isinstance(content, str) or not form.fullmatch(content):
            raise ValueError(f'"{identifier}": {content!r} is no digest')
        if identifier.startswith(IMAGE):
            Reference.parse(identifier.removeprefix(IMAGE))
    return Lock(sources)


def _rules(identifier: str, content: str) -> list[Rule]:
    if identifier.startswith(IMAGE):
        named = Reference.parse(identifier.removeprefix(IMAGE))
        if named.digest is not None:
            return [_allowed(identifier)] if named.digest == content else []
        taken = f"{identifier}@{content}"
        return [_converted(identifier, Update(taken)), _allowed(taken)]
    if identifier.startswith(GIT):
        url, _, commit = content.rpartition("#")
        place, _, fragment = identifier.partition("#")
        ref, colon, subdir = fragment.partition(":")
        attrs = {"git.fullurl": url} if url else {}
        taken = f"{place}#{commit}{colon}{subdir}"
        if ref == commit:
            return [_allowed(identifier)]
        return [_converted(identifier, Update(taken, attrs)), _allowed(taken)]
    key = "http.checksum"
    given = Rule(
        Action.CONVERT,
        Selector(identifier, MatchType.EXACT, (Constraint(key, ""),)),
        Update("", {key: content}),
    )
    return [given, _allowed(identifier, Constraint(key, content))]


def _converted(identifier: str, update: Update) -> Rule:
    return Rule(Action.CONVERT, Selector(identifier, MatchType.EXACT), update)


def _allowed(identifier: str, *constraints: Constraint) -> Rule:
    return Rule(Action.ALLOW, Selector(identifier, MatchType.EXACT, constraints))
