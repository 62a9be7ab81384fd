"""Named contexts: what ``--build-context`` puts in the place of stages and images [NC]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.frontend.giturl import CONTEXT_FILE, is_http, parse_git_url, without_credentials
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import GitSource, HttpSource, Vertex
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

_RESERVED = frozenset(("context", "dockerfile"))
_NEVER = frozenset(("scratch", "context"))
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_BARE = re.compile(r"(target|input):")
_MAX_DEPTH = 10


@dataclass(frozen=True, slots=True)
class LocalContext:
    """A directory of the client; *name* is what `LocalSource` calls it."""

    name: str


@dataclass(frozen=True, slots=True)
class ImageContext:
    """An image, config included; *reference* None is ``docker-image://scratch``.

    *layout*: where it is an image of an OCI layout directory, ``path[:tag][@digest]``.
    """

    name: str
    reference: Reference | None
    layout: str = ""


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """A git repository, or the file of an http(s) URL, which is then called ``context``."""

    name: str
    source: GitSource | HttpSource
    shown: str


@dataclass(frozen=True, slots=True)
class VertexContext:
    """A tree that somebody has defined already, with the image config that goes with it.

    Attributes:
        config: as parsed JSON; None where the tree is none of an image.
    """

    name: str
    vertex: Vertex
    config: Mapping[str, Any] | None = field(default=None, hash=False)


NamedContext = LocalContext | ImageContext | RemoteContext | VertexContext


class NamedContexts:
    """The contexts of one request.

    Raises:
        UsageError: a name is reserved or not a valid one [NC-3].
    """

    def __init__(
        self, values: Mapping[str, str], vertices: Mapping[str, VertexContext] | None = None
    ) -> None:
        self._vertices = vertices or {}
        self._values: dict[str, tuple[str, str]] = {}
        for given, value in values.items():
            name, _, platform = given.partition("::")
            if name in _RESERVED or name != name.lower():
                raise UsageError(f'invalid context name "{given}"')
            try:
                key = Reference.parse(name).shortest
                if platform:
                    key += f"::{Platform.parse(platform)}"
            except ValueError as error:
                raise UsageError(f'invalid context name "{given}": {error}') from error
            self._values[key] = (given, value)

    def find(self, name: str, platform: Platform) -> NamedContext | None:
        """Return the context that replaces *name*, a stage's or an image's [NC-2].

        Only a context that is asked for is looked at, so a bad one that nothing uses does not
        matter [NC-4].

        Raises:
            UserError: it is of a kind that cannot be used, or contexts refer to each other
                without end.
        """
        chain: list[str] = []
        context: NamedContext | None = None
        while True:
            entry = self._entry(name, platform)
            if entry is None or chain[-1:] == [entry[0]]:  # alpine=docker-image://alpine:latest
                return context
            if len(chain) >= _MAX_DEPTH:
                raise UserError(
                    "context recursion limit exceeded; this may indicate a cycle: "
                    + " -> ".join(chain)
                )
            chain.append(entry[0])
            context = self._vertices.get(entry[0]) or _parse(*entry)
            if not isinstance(context, ImageContext) or context.reference is None or context.layout:
                return context
            name = str(context.reference)

    def _entry(self, name: str, platform: Platform) -> tuple[str, str] | None:
        if not self._values or name.lower() in _NEVER:
            return None
        try:
            key = Reference.parse(name).shortest
        except ValueError:
            return None
        return self._values.get(f"{key}::{platform}") or self._values.get(key)


def _parse(name: str, value: str) -> NamedContext:
    if value.startswith("docker-image://"):
        text = value.removeprefix("docker-image://")
        if text == "scratch":
            return ImageContext(name, None)
        try:
            return ImageContext(name, Reference.parse(text))
        except ValueError as error:
            raise UserError(f"named context {name}: {error}") from error
    if value.startswith("oci-layout://"):
        layout = value.removeprefix("oci-layout://")
        if not layout:
            raise UserError(f"named context {name}: no directory in {value}")
        return ImageContext(name, Reference.parse(name.partition("::")[0]), layout)
    try:
        git = parse_git_url(value)
    except UserError as error:
        raise UserError(f"named context {name}: {error.message}") from error
    if git is not None:
        return RemoteContext(name, git.source(), without_credentials(value))
    if is_http(value):
        source = HttpSource(url=value, filename=CONTEXT_FILE)
        return RemoteContext(name, source, without_credentials(value))
    scheme = _SCHEME.match(value) or _BARE.match(value)
    if scheme is None:
        return LocalContext(name)
    kind = scheme[1].lower()
    hints = ("targets as contexts are for bake files: pybuild bake",)
    raise UserError(
        f"unsupported context source {kind} for {name}", hints=hints if kind == "target" else ()
    )
