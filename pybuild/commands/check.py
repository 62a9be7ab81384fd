"""``pybuild build --check`` and ``--call=…``: questions about a file instead of a build."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pybuild.arguments.build import pull_of
from pybuild.arguments.environment import platforms_of
from pybuild.arguments.values import parse_pairs
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_contexts, parse_secret
from pybuild.commandline.parser import Parsed
from pybuild.executor.sources.sshoptions import parse_agents
from pybuild.frontend.question import parse_call
from pybuild.model.errors import ExitCode

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder


def main(parsed: Parsed, builder: Builder) -> int:
    """Answer the question that ``--call`` asks about a file."""
    call = parse_call(parsed.one("call"), is_check=parsed.flag("check"))
    if call.question is None:
        from pybuild.commands.build import main as build

        return build(parsed, builder)
    answer = builder.answer(call.question, _request(parsed))
    sys.stdout.write(answer.json if call.json else answer.text)
    if answer.error is not None and not call.json:
        from pybuild.progress.render import report

        sys.stdout.flush()
        report(answer.error, sys.stderr)
    is_well = answer.is_clean or call.ignore_status
    return ExitCode.OK if is_well else ExitCode.BUILD_FAILURE


def _request(parsed: Parsed) -> BuildRequest:
    """Read as much of a command line as a question about a file needs.

    Raises:
        UsageError: the first value that is wrong.
    """
    return BuildRequest(
        context=parsed.positionals[0],
        dockerfile=parsed.one("file"),
        target=parsed.one("target"),
        build_args=parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True),
        named_contexts=parse_contexts(parsed.many("build-context")),
        platforms=platforms_of(parsed),
        pull=pull_of(parsed),
        secrets={secret.id: secret for secret in map(parse_secret, parsed.many("secret"))},
        ssh=parse_agents(parsed.many("ssh")),
    )
