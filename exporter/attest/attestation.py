"""An attestation about one result, until its subject has a digest [ATT-5, ATT-6]."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from pybuild.image.attestation import Statement, Subject
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

MAX_BYTES = 40 << 20
_PROVENANCE = "https://slsa.dev/provenance/"
_UNNAMED = "_"


@dataclass(frozen=True, slots=True)
class About:
    """The subject of an attestation.

    Attributes:
        name: empty for none.
        digests: by algorithm, in hex; None: the result itself, which gets *name* for another name.
    """

    name: str = ""
    digests: Mapping[str, str] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A predicate and where it goes.

    Attributes:
        path: its file name in directories and archives.
        predicate: makes the JSON when it is written; provenance ends with the time of that.
        about: its subjects; the result itself where it is empty.
        inline_only: for images alone.
        is_core: the list of the result's contents, not of stages and contexts; comes first.
    """

    path: str
    predicate_type: str
    predicate: Callable[[], Awaitable[Any]]
    about: tuple[About, ...] = ()
    inline_only: bool = False
    is_core: bool = False

    async def statement(self, result: Sequence[Subject]) -> Statement:
        """Return it about *result*, which may have several names or files."""
        subjects: list[Subject] = []
        for about in self.about or (About(),):
            if about.digests is not None:
                subjects.append(Subject(about.name or _UNNAMED, about.digests))
                continue
            for subject in result:
                subjects.append(subject)
                if about.name:
                    subjects.append(Subject(about.name, subject.digests))
        return Statement(self.predicate_type, await self.predicate(), tuple(subjects))


def core_first(attestations: Iterable[Attestation]) -> list[Attestation]:
    return sorted(attestations, key=lambda attestation: not attestation.is_core)


def from_client(
    path: str, predicate_type: str, data: bytes, about: tuple[About, ...] = ()
) -> Attestation:
    """Return an attestation whose predicate somebody else made.

    Raises:
        UserError: no JSON; or provenance, of which only the builder can speak.
    """
    if predicate_type.startswith(_PROVENANCE):
        raise UserError("frontend may not set provenance attestations")
    document = _parsed(path, data) if data else None  # an empty file says that it is so, no more

    async def predicate() -> Any:
        return document

    return Attestation(path=path, predicate_type=predicate_type, predicate=predicate, about=about)


def unbundled(
    files: Iterable[tuple[str, bytes]], predicate_type: str = "", core: str = ""
) -> list[Attestation]:
    """Return the attestations of a directory of in-toto statements, the core's first.

    Args:
        predicate_type: the only type to take; empty for any.
        core: the name, up to its first dot, of the one about the result.

    Raises:
        UserError: a file that is none.
    """
    attestations: list[Attestation] = []
    for name, data in files:
        document = _parsed(name, data)
        if not isinstance(document, dict) or not isinstance(document.get("predicateType"), str):  # pyright: ignore[reportUnknownMemberType]
            raise UserError(f"{name}: not an in-toto statement")
        statement: dict[str, Any] = document  # pyright: ignore[reportUnknownVariableType]
        kind: str = statement["predicateType"]
        if predicate_type and kind != predicate_type:
            raise UserError(
                f"bundle entry {name}: {kind} does not match required predicate type"
                f" {predicate_type}"
            )
        attestations.append(_of_statement(name, kind, statement, core))
    return core_first(attestations)


def _of_statement(name: str, kind: str, statement: Mapping[str, Any], core: str) -> Attestation:
    if kind.startswith(_PROVENANCE):
        raise UserError("frontend may not bundle provenance attestations")
    about: list[About] = []
    subjects: Any = statement.get("subject") or []
    try:
        for subject in subjects:
            given: Mapping[str, Any] = subject.get("digest") or {}
            digests = {str(key): str(value) for key, value in given.items()}
            about.append(About(str(subject.get("name") or ""), digests))
    except (AttributeError, TypeError) as error:
        raise UserError(f"{name}: its subjects cannot be read") from error
    content = statement.get("predicate")

    async def predicate() -> Any:
        return content

    return Attestation(
        path=name,
        predicate_type=kind,
        predicate=predicate,
        about=tuple(about),
        is_core=bool(core) and name.partition(".")[0] == core,
    )


def _parsed(name: str, data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise UserError(f"{name} exceeds {MAX_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not valid JSON: {error}") from error
