"""One build's request, with every value checked and parsed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.exporter.output import Output
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.ops import StepSettings
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.volumes import HostVolume

if TYPE_CHECKING:
    from pybuild.builds.breakpoints import BreakPoints
    from pybuild.builds.failedbuild import FailedBuild
    from pybuild.executor.sources.agents import SshAgent
    from pybuild.exporter.attest.options import AttestOptions
    from pybuild.frontend.lowering.interface import Pull
    from pybuild.model.policy import Policies
    from pybuild.registry.client.credentials import Credential
    from pybuild.remotecache.options import CacheFrom, CacheTo

OnFail = Callable[["FailedBuild"], Awaitable[Sequence[str]]]

MAX_AGE = "pybuild.max-age"
"""The attribute of a request to a server of ours: as ``--max-age`` says it, separated by commas."""
MAY_DELETE = "buildx.local.delete"
ENTITLEMENTS = (MAY_DELETE, "network.host", "security.insecure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """The place of a build secret's value [SEC-1]; the value itself is read when used.

    Attributes:
        in_key: the value counts, in a form that tells nobody what it is; *read* gives the same always.
    """

    id: str
    read: Callable[[], bytes] = field(repr=False, compare=False)
    in_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionRequest:
    """The part of a request that decides the definition, whoever sent it.

    Attributes:
        named_contexts: name, or ``name::platform``, to its value.
        platforms: of the result; several give an index.
        as_index: the result is an index also of one platform.
        no_cache: for all stages; *no_cache_filter* for some (lower case).
        max_ages: as `LowerOptions` has them.
        steps: the settings of every RUN.
        volumes: directories of the builder's machine in every RUN; servers have none.
        policies: judge every source of the build [POL].
        any_frontend: read the file as a Dockerfile, whatever frontend it names.
    """

    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    named_contexts: Mapping[str, str] = field(default_factory=dict[str, str])
    platforms: tuple[Platform, ...] = ()
    as_index: bool = False
    no_cache: bool = False
    no_cache_filter: frozenset[str] = frozenset()
    max_ages: Mapping[str, float] = field(default_factory=dict[str, float])
    steps: StepSettings = field(default_factory=StepSettings)
    volumes: tuple[HostVolume, ...] = ()
    policies: Policies | None = None
    any_frontend: bool = False

    @property
    def multi_platform(self) -> bool:
        """Whether the result is an index, and a directory for each platform [OUT-13]."""
        forced = self.build_args.get("BUILDKIT_MULTI_PLATFORM", "").lower()
        return self.as_index or len(self.platforms) > 1 or forced in {"1", "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest(DefinitionRequest):
    """One build.

    Attributes:
        context: a directory; a git repository or an http(s) URL; ``-`` is standard input, which
            holds an archive or the Dockerfile of an empty context [CTX-1].
        dockerfile: path of the Dockerfile, empty for the context's own; ``-`` is standard input.
            With a context from elsewhere a relative path is the context's.
        dockerfile_text: the Dockerfile itself; wins over *dockerfile*.
        load: an image output into the store of this machine, wherever the builder is (``--load``).
        pull: when registries are asked for base images.
        ssh: agents that steps and git may use.
        attestations: those that are to be made of the result.
        cache_from: searched in this order for results that are not here; *cache_to* gets them.
        allow: the rights of steps; ``buildx.local.delete`` is about outputs, and ours alone.
        fail_on_miss: let no step run; fail at the first that would have to.
        ignore_from_git: files that git ignores are no part of local contexts, nor is ``.git``.
        logins: at registries, by host; they win over those of docker's and podman's files.
        on_fail_output: the directory that gets files of a step that fails; empty for none.
        on_fail: is given the build that failed at a step, while its trees are there; returns hints.
        breaks: the steps at which the build stands for a while.
        git_modes: files of local contexts count, and are copied, with the modes that git stores.

    Raises:
        UsageError: an output would remove files, and nobody allowed it [OUT-17].
    """

    context: str
    dockerfile: str = ""
    dockerfile_text: bytes | None = None
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()
    load: Output | None = None
    pull: Pull = False
    secrets: Mapping[str, Secret] = field(default_factory=dict[str, Secret])
    ssh: tuple[SshAgent, ...] = ()
    allow: frozenset[str] = frozenset()
    attestations: AttestOptions | None = None
    cache_to: tuple[CacheTo, ...] = ()
    cache_from: tuple[CacheFrom, ...] = ()
    fail_on_miss: bool = False
    on_fail_output: str = ""
    on_fail: OnFail | None = None
    breaks: BreakPoints | None = None
    git_modes: bool = False
    ignore_from_git: bool = False
    logins: Mapping[str, Credential] = field(default_factory=dict[str, "Credential"], repr=False)

    def __post_init__(self) -> None:
        for output in self.outputs:
            if output.replaces and MAY_DELETE not in self.allow:
                raise UsageError(
                    f"output mode=delete removes what is not in the result from {output.dest}",
                    hints=[f"allow it with --allow {MAY_DELETE}"],
                )

    @property
    def is_kept(self) -> bool:
        """Whether an image stays in the store, and does not only go elsewhere."""
        return not self.outputs or any(output.is_kept for output in self.outputs)

    @property
    def is_index(self) -> bool:
        """Whether its image is an index: of several platforms, or of one with attestations."""
        return self.multi_platform or self.attestations is not None


def ages_of_attribute(text: str) -> dict[str, float]:
    """Return the `DefinitionRequest.max_ages` of a client that says *text* as `MAX_AGE`.

    Raises:
        UsageError: one is no age.
    """
    if not text:
        return {}
    from pybuild.model.amounts import parse_ages

    return parse_ages(text.split(","))
