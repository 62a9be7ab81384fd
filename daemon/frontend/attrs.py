"""Reads the attributes that clients send to the Dockerfile frontend [7.2]."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.builds.request import MAX_AGE, DefinitionRequest, ages_of_attribute
from pybuild.engine.host import native_platform, platforms_from
from pybuild.exporter.attest.options import AttestOptions, attest_options, options_of
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.platform import Platform
from pybuild.model.stepoptions import settings_of_attributes

LOCAL, INPUT = "local:", "input:"
CMDLINE, SOURCE = "cmdline", "source"  # of the frontend's image
FRONTEND_CAPS = "frontend.caps"
_CAPS_PREFIX = "moby.buildkit.frontend."
CAPS = frozenset(
    f"{_CAPS_PREFIX}{name}" for name in ("inputs", "subrequests", "contexts", "gitquerystring")
)


class UnsupportedCap(UsageError):
    """The client asks for a capability that the frontend has not; *name* is it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unsupported frontend capability {name}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Attrs(DefinitionRequest):
    """One request to the Dockerfile frontend.

    Attributes:
        filename: path of the Dockerfile in the *dockerfile_key* local; *named*: somebody gave it.
        context: a remote context's URL; empty for the client's directory.
        context_key, dockerfile_key: names of the client's directories; the latter is empty where
            the Dockerfile is read from the remote context.
        input_metadata: per input its image config as JSON.
        local_sessions: per local, the session that has it.
        pull: ask registries though the answer is known.
        cache_imports: ``(type, attributes)``.
        attestations: the lists and the provenance to be made of the result.
        request: id of a sub-request, such as ``frontend.lint``.
    """

    filename: str = "Dockerfile"
    named: bool = False
    context: str = ""
    context_subdir: str = ""
    context_key: str = "context"
    dockerfile_key: str = "dockerfile"
    input_metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    local_sessions: Mapping[str, str] = field(default_factory=dict[str, str])
    pull: bool = True
    cache_imports: tuple[tuple[str, Mapping[str, str]], ...] = ()
    attestations: AttestOptions = field(default_factory=AttestOptions)
    request: str = ""


def read_attrs(given: Mapping[str, str]) -> Attrs:
    """Check every value.

    Raises:
        UsageError: the first one that is wrong; `UnsupportedCap` for an unknown capability.
    """
    for name in caps_of(given.get(FRONTEND_CAPS, "")):
        if name not in CAPS:
            raise UnsupportedCap(name)
    no_cache = given.get("no-cache")
    stages = [name for name in (no_cache or "").split(",") if name]
    mode = given.get("image-resolve-mode", "default")
    if mode not in ("", "default", "pull", "local"):
        raise UsageError(f"invalid image-resolve-mode: {mode}")
    return Attrs(
        filename=given.get("filename") or "Dockerfile",
        named=bool(given.get("filename")) and given["filename"] != "Dockerfile",
        target=given.get("target", ""),
        context=given.get("context", ""),
        context_subdir=given.get("contextsubdir", ""),
        context_key=given.get("contextkey") or "context",
        dockerfile_key=given.get("dockerfilekey")
        or ("dockerfile" if not given.get("context") else ""),
        build_args=below(given, "build-arg:"),
        labels=below(given, "label:"),
        named_contexts=below(given, "context:"),
        input_metadata=below(given, "input-metadata:"),
        local_sessions=below(given, "local-sessionid:"),
        platforms=platforms_from(given.get("platform", "")),
        as_index=_flag(given, "multi-platform"),
        no_cache=no_cache is not None and not stages,
        no_cache_filter=frozenset(name.lower() for name in stages),
        max_ages=ages_of_attribute(given.get(MAX_AGE, "")),
        pull=mode != "local",
        steps=settings_of_attributes(given),
        cache_imports=_cache_imports(given),
        attestations=read_attestations(given),
        request=given.get("requestid", ""),
    )


def default_platform(attrs: Attrs) -> Platform:
    """The platform of the result where only one is wanted."""
    return attrs.platforms[0] if attrs.platforms else native_platform()


def with_slashes(context: str) -> str:
    """``docker-image:alpine`` may be said for ``docker-image://alpine``, and so for layouts."""
    scheme, colon, rest = context.partition(":")
    if colon and scheme in ("docker-image", "oci-layout") and not rest.startswith("//"):
        return f"{scheme}://{rest}"
    return context


def below(given: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the values of the keys that begin with *prefix*, by the rest of these, sorted."""
    return {
        key.removeprefix(prefix): value
        for key, value in sorted(given.items())
        if key.startswith(prefix) and key != prefix
    }


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "")
    if text.lower() not in ("", "0", "1", "true", "false", "t", "f"):
        raise UsageError(f"invalid boolean value {text} for {name}")
    return text.lower() in ("1", "true", "t")


def caps_of(text: str) -> list[str]:
    """Return the names of the capabilities in a list of them."""
    names = (item.partition("+")[0] for item in text.split(","))
    return [name for name in names if name]


def _cache_imports(given: Mapping[str, str]) -> tuple[tuple[str, Mapping[str, str]], ...]:
    text = given.get("cache-imports", "")
    imports: list[tuple[str, Mapping[str, str]]] = []
    if text:
        try:
            entries: list[dict[str, Any]] = json.loads(text)
            for entry in entries:
                given_attrs: dict[str, Any] = entry.get("Attrs") or {}
                attrs = {str(key): str(value) for key, value in given_attrs.items()}
                imports.append((str(entry.get("Type", "")), attrs))
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise UsageError(f"failed to unmarshal cache-imports: {text[:80]}") from None
    for reference in filter(None, given.get("cache-from", "").split(",")):
        imports.append(("registry", {"ref": reference}))
    return tuple(imports)


def read_attestations(given: Mapping[str, str]) -> AttestOptions:
    """Return the attestations that attributes ask for [ATT-1, ATT-3].

    Raises:
        UsageError: of a kind that there is not, or with an option that is wrong.
    """
    texts = {key.lower(): value for key, value in below(given, "attest:").items()}
    for key, value in below(given, "build-arg:BUILDKIT_ATTEST_").items():
        texts[key.lower()] = value
    attestations: dict[str, Mapping[str, str]] = {}
    for kind, text in texts.items():
        options = options_of(text, f"attest:{kind}")
        if options is not None:
            options.pop("type", None)  # docker buildx repeats it in the value
            attestations[kind] = options
    return attest_options(attestations)
