"""The options of ``pybuild build`` as a request, and the files that they have written.

Wherever the build is done; so nothing of the engine is imported here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.arguments.environment import logins_of, platforms_of, use_authfile
from pybuild.arguments.values import parse_pairs
from pybuild.builds.memo import POLICY_VARIABLES
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_allowed, parse_contexts, parse_secret
from pybuild.commandline.parser import Parsed
from pybuild.engine.dockerconfig import proxy_arguments
from pybuild.exporter.output import outputs_of, parse_output
from pybuild.model.amounts import parse_ages
from pybuild.model.errors import UsageError
from pybuild.model.ops import StepSettings
from pybuild.model.reference import Reference
from pybuild.model.stepoptions import settings_of_flags
from pybuild.remotecache.requested import caches_of

if TYPE_CHECKING:
    from pybuild.executor.sources.agents import SshAgent
    from pybuild.exporter.attest.options import AttestOptions
    from pybuild.frontend.lowering.interface import Pull
    from pybuild.model.policy import Policies
    from pybuild.model.volumes import HostVolume


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
        allow_secrets=parsed.many("allow-secret"),
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
        max_ages=parse_ages(parsed.many("max-age")),
        on_fail_output=parsed.one("on-fail-output"),
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
    if parsed.flag("locked"):
        from pybuild.builds.lockfile import locked_policies

        return locked_policies(parsed.positionals[0], parsed.one("lockfile"), path)
    if not path:
        return None
    from pybuild.buildkit.policyfile import read_policy_file

    return read_policy_file(path)


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


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except ValueError as error:
        lower = text.lower()
        hint = f"write -t {lower}" if lower != text else "write -t NAME:TAG, as in -t team/app:1.2"
        raise UsageError(f'invalid tag "{text}": {error}', hints=[hint]) from error
