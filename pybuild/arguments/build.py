"""The options of ``pybuild build`` as a request, and the files that they have written.

Wherever the build is done; so nothing of the engine is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from pybuild.arguments.environment import (
    logins_of,
    platforms_of,
    proxy_arguments,
    use_authfile,
)
from pybuild.arguments.values import (
    parse_allowed,
    parse_contexts,
    parse_pairs,
    parse_secret,
)
from pybuild.builds.memo import POLICY_VARIABLES
from pybuild.builds.request import BuildRequest
from pybuild.commandline.parser import Parsed
from pybuild.exporter.output import Output, parse_output
from pybuild.model.errors import UsageError
from pybuild.model.ops import StepSettings
from pybuild.model.reference import Reference
from pybuild.model.stepoptions import settings_of_flags

if TYPE_CHECKING:
    from pybuild.executor.sources.agents import SshAgent
    from pybuild.exporter.attest.options import AttestOptions
    from pybuild.frontend.lowering.interface import Pull
    from pybuild.model.policy import Policies
    from pybuild.model.volumes import HostVolume
    from pybuild.remotecache.options import CacheFrom, CacheTo


def request_from(parsed: Parsed) -> BuildRequest:
    """Check every value of the command line.

    Raises:
        UsageError: the first one that is wrong.
    """
    tags = tuple(_reference(text) for text in parsed.many("tag"))
    outputs, load = outputs_of(
        [parse_output(text) for text in parsed.many("output")],
        tags,
        push=parsed.flag("push"),
        load=parsed.flag("load"),
        annotations=parsed.many("annotation"),
    )
    args = parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True)
    if "SOURCE_DATE_EPOCH" in os.environ:
        args.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    for name, value in proxy_arguments(os.environ).items():
        args.setdefault(name, value)
    if len(parsed.many("file")) > 1:
        files = " ".join(f"-f {file}" for file in parsed.many("file"))
        raise UsageError(
            f"{files}: a build has one Dockerfile", hints=["build once for each of them"]
        )
    use_authfile(parsed)
    secrets = [parse_secret(text) for text in parsed.many("secret")]
    filters = [name for text in parsed.many("no-cache-filter") for name in text.split(",")]
    return BuildRequest(
        context=parsed.positionals[0],
        dockerfile=parsed.one("file"),
        target=parsed.one("target"),
        build_args=args,
        named_contexts=parse_contexts(parsed.many("build-context")),
        platforms=platforms_of(parsed),
        tags=tags,
        outputs=tuple(outputs),
        load=load,
        no_cache=parsed.flag("no-cache"),
        no_cache_filter=frozenset(name.lower() for name in filters if name),
        pull=pull_of(parsed),
        labels=parse_pairs(parsed.many("label"), "label", from_environment=False),
        steps=_steps(parsed),
        volumes=_volumes(parsed),
        secrets={secret.id: secret for secret in secrets},
        ssh=_agents(parsed),
        allow=parse_allowed(parsed.many("allow")),
        attestations=_attestations(parsed),
        fail_on_miss=parsed.flag("fail-on-miss"),
        git_modes=_has_git_modes(parsed),
        ignore_from_git=parsed.flag("ignore-from-git"),
        logins=logins_of(parsed, *tags),
        policies=_policies(parsed),
        **caches_of(
            parsed.positionals[0],
            parsed.many("cache"),
            to=parsed.many("cache-to"),
            sources=parsed.many("cache-from"),
        ),
    )


def pull_of(parsed: Parsed) -> Pull:
    """Return the meaning of ``--pull`` and ``--pull=POLICY``."""
    text = parsed.one("pull", "false")
    match text:
        case "newer":
            return "newer"
        case "never":
            return "never"
        case _:
            return text in ("true", "always")


def _agents(parsed: Parsed) -> tuple[SshAgent, ...]:
    """Read the values of ``--ssh``, which few builds have."""
    if "ssh" not in parsed.values:
        return ()
    from pybuild.executor.sources.sshoptions import parse_agents

    return parse_agents(parsed.many("ssh"))


def _volumes(parsed: Parsed) -> tuple[HostVolume, ...]:
    """Read the values of ``-v``, which few builds have."""
    if "volume" not in parsed.values:
        return ()
    from pybuild.builds.hostvolumes import parse_volumes

    return parse_volumes(parsed.many("volume"))


def _steps(parsed: Parsed) -> StepSettings:
    """Read the settings of steps; a ulimit that no kernel knows is refused before the build."""
    steps = settings_of_flags(parsed.many)
    if steps.ulimits:
        from pybuild.executor.zygote import ulimits

        for limit in steps.ulimits:
            if problem := ulimits.problem(*limit):
                raise UsageError(problem)
    return steps


def _policies(parsed: Parsed) -> Policies | None:
    """Read the rules for sources: those that are named, else those of the environment [POL-1]."""
    path = parsed.one("source-policy-file") or next(
        (os.environ[name] for name in POLICY_VARIABLES if os.environ.get(name)), ""
    )
    if not path:
        return None
    from pybuild.buildkit.policyfile import read_policy_file

    return read_policy_file(path)


class BuildCaches(TypedDict, total=False):
    """The caches of a `BuildRequest`."""

    cache_to: tuple[CacheTo, ...]
    cache_from: tuple[CacheFrom, ...]


def caches_of(
    context: str, urls: Sequence[str], *, to: Sequence[str], sources: Sequence[str]
) -> BuildCaches:
    """Read the targets and sources of the cache; those that *urls* name, as ``--cache``, come last [CCH]."""
    if not (urls or to or sources):
        return {}
    from pybuild.remotecache.branches import cache_tags
    from pybuild.remotecache.cacheurl import parse_cache
    from pybuild.remotecache.options import parse_cache_from, parse_cache_to

    tags = cache_tags(context if os.path.isdir(context) else ".", os.environ)
    both = [parse_cache(text, tags) for text in urls]
    targets, origins = map(parse_cache_to, to), map(parse_cache_from, sources)
    return {
        "cache_to": (*targets, *(one for one, _ in both)),
        "cache_from": (*origins, *(one for _, several in both for one in several)),
    }


def _has_git_modes(parsed: Parsed) -> bool:
    """Whether modes of files are those that git stores: asked for, or implied by ``--cache``.

    A cache is for other machines, whose checkouts have another umask.
    """
    modes = parsed.one("modes", "git" if parsed.many("cache") else "keep")
    if modes not in ("git", "keep"):
        raise UsageError(f'invalid modes "{modes}": one of git, keep')
    return modes == "git"


def _attestations(parsed: Parsed) -> AttestOptions | None:
    """Read the options of attestations, which few builds have [BLD-18]."""
    if not any(name in parsed.values for name in ("attest", "provenance", "sbom")):
        return None
    from pybuild.exporter.attest.options import from_flags

    return from_flags(parsed.many("attest"), parsed.one("provenance"), parsed.one("sbom"))


def outputs_of(
    outputs: list[Output],
    tags: Sequence[Reference],
    *,
    push: bool,
    load: bool,
    annotations: Sequence[str],
) -> tuple[list[Output], Output | None]:
    """Return the outputs with those that options add, and the one of ``--load`` [BLD-9, BLD-17].

    Raises:
        UsageError: an annotation is wrong, or what is pushed has no name.
    """
    if push:
        outputs = _with_push(outputs)
    loads = [Output(type="image")] if load else []
    outputs = _with_annotations([*outputs, *loads], annotations)
    loaded = outputs.pop() if loads else None
    wants_push = any(o.type == "registry" or o.flag("push") for o in outputs)
    if wants_push and not tags and not any(o.attrs.get("name") for o in outputs):
        raise UsageError("tag is needed when pushing to registry", hints=["name the image with -t"])
    return outputs, loaded


def _with_push(outputs: list[Output]) -> list[Output]:
    """``--push`` fills in an image output or adds a registry output [BLD-9]."""
    if any(output.type == "registry" for output in outputs):
        return outputs
    for index, output in enumerate(outputs):
        if output.type == "image":
            pushed = Output(type="image", attrs={**output.attrs, "push": "true"})
            return [*outputs[:index], pushed, *outputs[index + 1 :]]
    return [*outputs, Output(type="registry")]


def _with_annotations(outputs: list[Output], flags: Sequence[str]) -> list[Output]:
    """``--annotation`` is about every output that is an image [BLD-17].

    Raises:
        UsageError: there is none, or an annotation is wrong.
    """
    if not flags:
        return outputs
    from pybuild.exporter.annotations import attributes_of

    more = attributes_of(flags)
    outputs = outputs or [Output(type="image")]
    if not any(output.is_image for output in outputs):
        raise UsageError("--annotation needs an output that is an image")
    return [
        Output(type=one.type, dest=one.dest, attrs={**more, **one.attrs}) if one.is_image else one
        for one in outputs
    ]


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except ValueError as error:
        lower = text.lower()
        hint = f"write -t {lower}" if lower != text else "write -t NAME:TAG, as in -t team/app:1.2"
        raise UsageError(f'invalid tag "{text}": {error}', hints=[hint]) from error
