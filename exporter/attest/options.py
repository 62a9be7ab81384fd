"""The attestations that a build is asked for [ATT-1, ATT-3, BLD-18]."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import field

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.model.text import boolean

PROVENANCE, SBOM = "provenance", "sbom"
V1, V02 = "v1", "v0.2"
FILENAME = "provenance.json"
SCANNER = "docker/buildkit-syft-scanner:stable-1"
# The reference records the machine's load while it builds; nothing is recorded here.
_WITHOUT_EFFECT = frozenset(("capture-usage",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The form of a build's provenance.

    Attributes:
        full: with the definition, the Dockerfile, build args and layers (``mode=max``).
        version: of the predicate, ``v1`` or ``v0.2``.
        builder_id: the builder's URI.
        filename: the name of the file that directories and archives get.
        reproducible: the user's claim.
        inline_only: only images get it, no directories and archives.
        complete_materials: fail rather than leave out a source.
    """

    full: bool = True
    version: str = V1
    builder_id: str = ""
    filename: str = FILENAME
    reproducible: bool = False
    inline_only: bool = False
    complete_materials: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbom:
    """The image that scans results; `SCANNER` by default.

    Attributes:
        parameters: handed to it as ``BUILDKIT_SCAN_<name>``.
    """

    generator: Reference
    parameters: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestOptions:
    """The attestations of one build; it is falsy when there are none."""

    provenance: Provenance | None = None
    sbom: Sbom | None = None

    def __bool__(self) -> bool:
        return self.provenance is not None or self.sbom is not None


def attest_options(options: Mapping[str, Mapping[str, str]]) -> AttestOptions:
    """Check the options of each kind.

    Raises:
        UsageError: an unknown kind or option, or a value that cannot be.
    """
    for kind in options:
        if kind not in (PROVENANCE, SBOM):
            raise UsageError(f'unknown attestation type "{kind}"')
    provenance = options.get(PROVENANCE)
    scan = options.get(SBOM)
    return AttestOptions(
        provenance=None if provenance is None else _provenance(provenance),
        sbom=None if scan is None else _sbom(scan),
    )


def options_of(text: str, what: str) -> dict[str, str] | None:
    """Read ``key=value,…``, where ``true`` and ``false`` alone mean yes and no; None is no.

    Raises:
        UsageError: *what*, the option's name, has no such form.
    """
    switched = boolean(text.lower())
    if switched is False:
        return None
    options: dict[str, str] = {}
    if switched is None:
        for record in csv.reader([text]):
            for item in filter(None, (field.strip() for field in record)):
                key, equals, value = item.partition("=")
                if not key or not (equals or key == "disabled"):
                    raise UsageError(f'invalid {what} "{text}": expected key=value pairs')
                options[key.strip()] = value if equals else "true"
    if _boolean(options.pop("disabled", "false"), f"{what} disabled"):
        return None
    return options


def from_flags(attest: Iterable[str], provenance: str, sbom: str) -> AttestOptions:
    """Read ``--attest``, ``--provenance`` and ``--sbom``; empty texts were not given.

    Raises:
        UsageError: one of them is wrong.
    """
    kinds: dict[str, Mapping[str, str]] = {}
    flags = [(None, text) for text in attest]
    for kind, text in (*flags, (PROVENANCE, provenance), (SBOM, sbom)):
        if not text:
            continue
        options = options_of(text, f"--{kind or 'attest'}")
        if kind is not None:
            given = kind
        elif options is None:
            given = _kind_of(text)
        else:
            given = options.pop("type", "")
        if not given:
            raise UsageError(f'invalid --attest "{text}": it has no type')
        kinds.pop(given, None)
        if options is not None:
            kinds[given] = options
    return attest_options(kinds)


def _kind_of(text: str) -> str:
    """The type in an ``--attest`` that is switched off."""
    items = (item.partition("=") for item in text.split(","))
    return next((value for key, _, value in items if key.strip().lower() == "type"), "")


def _provenance(options: Mapping[str, str]) -> Provenance:
    mode = options.get("mode") or "max"
    if mode not in ("min", "max", "full"):
        raise UsageError(f'invalid mode "{mode}"', hints=["provenance has mode=min and mode=max"])
    version = options.get("version") or V1
    if version not in (V1, V02):
        raise UsageError(
            f"invalid provenance SLSA version: {version}", hints=[f"it is {V1} or {V02}"]
        )
    known = {"mode", "version", "builder-id", "filename", "reproducible", "inline-only"}
    for name in sorted(options.keys() - known - {"complete-materials"} - _WITHOUT_EFFECT):
        raise UsageError(f'provenance has no option "{name}"', hints=[", ".join(sorted(known))])
    filename = options.get("filename") or FILENAME
    if "/" in filename or filename in (".", ".."):
        raise UsageError(f'provenance filename="{filename}": expected a name without directories')
    return Provenance(
        full=mode != "min",
        version=version,
        builder_id=options.get("builder-id", ""),
        filename=filename,
        reproducible=_boolean(options.get("reproducible", "false"), "reproducible"),
        inline_only=_boolean(options.get("inline-only", "false"), "inline-only"),
        complete_materials=_boolean(
            options.get("complete-materials", "false"), "complete-materials"
        ),
    )


def _sbom(options: Mapping[str, str]) -> Sbom:
    text = options.get("generator") or SCANNER
    try:
        generator = Reference.parse(text)
    except ValueError as error:
        raise UsageError(f"failed to parse sbom generator {text}: {error}") from error
    parameters = {name: value for name, value in options.items() if name != "generator"}
    return Sbom(generator=generator, parameters=parameters)


def _boolean(text: str, what: str) -> bool:
    value = boolean(text.lower())
    if value is None:
        raise UsageError(f'failed to parse {what} flag "{text}"')
    return value
