"""Arguments and results of lowering: the face of the frontend towards the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning
from pybuild.model.ops import StepSettings, Vertex
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span

if TYPE_CHECKING:
    from pybuild.frontend.lowering.contexts import VertexContext
    from pybuild.model.policy import Policies
    from pybuild.model.volumes import HostVolume


Pull = bool | Literal["newer", "never"]
"""When registries are asked for a base image: only for what is not known, always, always but with
what is known where that fails, or never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerOptions:
    """The part of a build request that decides the definition.

    Attributes:
        target: stage name, empty for the last stage.
        build_args: as given; a value of None was already taken from the environment or dropped.
        target_platform, build_platform: of the result, and of this machine.
        platform_explicit: somebody asked for the target platform, so the config says so whatever
            the base image says [FROM-9].
        named_contexts: ``--build-context``: name (lower case) to its value as written.
        context_trees: the vertices of those of them that are defined already.
        no_cache: ignore stored results for every stage.
        no_cache_filter: the same for these stages (lower case).
        max_ages: how many seconds stored results of a stage's steps may be used, by its name in
            lower case; of all others by "". Comments in the file count more.
        labels: ``--label``, applied after the last stage [LBL-1].
        steps: the settings of every RUN; its own flag, and the build arg for a host name, win.
        volumes: directories of the machine in every RUN.
        secret_values: by id, keyed digests of the secrets that count.
        local_excludes: per local source name, the lines of its ignore file, cleaned [IGN-3].
        context: the vertex of the build context where that is no directory of the client.
        multi_platform: prefix progress names with the platform [UI-3].
        any_frontend: read the file as a Dockerfile, whatever frontend it names.
        policies: judge every source before it is asked for [POL-5].
        epochs: the value of a word that was given for SOURCE_DATE_EPOCH, in seconds; None where
            it has no time (`pybuild.frontend.lowering.epoch`).
    """

    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict[str, str])
    target_platform: Platform
    build_platform: Platform
    platform_explicit: bool = False
    named_contexts: Mapping[str, str] = field(default_factory=dict[str, str])
    context_trees: Mapping[str, VertexContext] = field(default_factory=dict[str, "VertexContext"])
    no_cache: bool = False
    no_cache_filter: frozenset[str] = frozenset()
    max_ages: Mapping[str, float] = field(default_factory=dict[str, float])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    steps: StepSettings = field(default_factory=StepSettings)
    volumes: tuple[HostVolume, ...] = ()
    secret_values: Mapping[str, str] = field(default_factory=dict[str, str])
    local_excludes: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    context: Vertex | None = None
    multi_platform: bool = False
    any_frontend: bool = False
    policies: Policies | None = None
    epochs: Mapping[str, int | None] = field(default_factory=dict[str, int | None])


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """An image whose manifest and config the frontend must know before it can go on.

    *layout*: it is in an OCI layout directory, ``path[:tag][@digest]``; *reference* is only a name.
    """

    reference: Reference
    platform: Platform
    layout: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """The answer: the manifest digest of the chosen platform and the image config, as parsed JSON.

    Attributes:
        known: false for an image that could not be had, in checks, which go on without it.
    """

    digest: Digest
    config: Mapping[str, Any] = field(hash=False)
    layer_count: int
    platform: Platform
    known: bool = True

    @classmethod
    def unknown(cls, request: ImageRequest) -> ResolvedImage:
        """Stand in for an image of which only the name is known."""
        digest = Digest.of(str(request).encode())
        return cls(digest, {}, 1, request.platform, known=False)


@dataclass(frozen=True, slots=True)
class NeedImages:
    """Resolve these, all at once, and call `lower` again with the answers added.

    Attributes:
        spans: per request, the lines that ask for it, for errors.
        guesses: for some requests, a stage that was perhaps meant, where there is no such image.
    """

    requests: tuple[ImageRequest, ...]
    spans: tuple[tuple[Span, ...], ...]
    guesses: Mapping[ImageRequest, str] = field(default_factory=dict[ImageRequest, str])

    def hints(self, request: ImageRequest) -> tuple[str, ...]:
        """Return the hints for an error that there is no such image."""
        guess = self.guesses.get(request)
        if guess and guess == request.reference.shortest:
            return (f"the stage {guess} stands further down: move it above this line",)
        return (f"did you mean the stage {guess}?",) if guess else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """One entry of the image's history that this build adds [CFG-4].

    Attributes:
        vertex: the vertex that makes this entry's layer; None for an empty layer. Its creation
            time is when that vertex's result was made.
        created: the entry's time as it is written, where another frontend has said it.
    """

    created_by: str
    vertex: Vertex | None = None
    comment: str = "buildkit.dockerfile.v0"
    created: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """The finished definition of one platform.

    Attributes:
        result: the vertex whose tree is the image's.
        config: the image config without ``created``, ``rootfs`` and new history; unknown fields
            of the base are kept [CFG-1]. ``history`` holds the base's entries.
        base_layer_count: layers that come from the base image; -1 where only the finished tree
            tells, which has those of this build on top.
        history: entries added by this build, in order.
        contexts: local sources that the definition reads (``context`` and named ones).
        advice: warnings of ours, of which clients of a server are not told.
        epoch: SOURCE_DATE_EPOCH, if set.
        scans: trees besides the result that are to be scanned for what is in them, by name.
    """

    result: Vertex
    config: dict[str, Any]
    base_layer_count: int
    history: tuple[HistoryItem, ...]
    contexts: frozenset[str]
    platform: Platform
    warnings: tuple[BuildWarning, ...] = ()
    advice: tuple[BuildWarning, ...] = ()
    epoch: int | None = None
    scans: Mapping[str, Vertex] = field(default_factory=dict[str, Vertex])


# --- frontends that are images --------------------------------------------------------------------

SYNTAX_ARG = "BUILDKIT_SYNTAX"


@dataclass(frozen=True, slots=True)
class FrontendImage:
    """A frontend that is an image.

    Attributes:
        source: its name as written, or a named context's.
        cmdline: all of the value that names it.
        spans: where it is named.
    """

    source: str
    cmdline: str
    spans: tuple[Span, ...] = ()


class NeedsFrontend(UserError):
    """The file is in the language of a frontend *image*, which is not built in."""

    def __init__(self, image: FrontendImage) -> None:
        super().__init__(
            f"frontend {image.source} cannot be run: "
            "only the language of docker/dockerfile is built in",
            spans=image.spans,
            hints=("remove the syntax directive to read the file as an ordinary Dockerfile",),
        )
        self.image = image


def may_need_frontend(text: bytes, build_args: Mapping[str, str]) -> bool:
    """Whether a file, or a build argument, may name a frontend: most do not, and need no more of this."""
    return SYNTAX_ARG in build_args or b"syntax" in text.lower()
