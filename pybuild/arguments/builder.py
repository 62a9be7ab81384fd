"""The build server that a command line, the environment or the user's records choose. Lean."""

from __future__ import annotations

import os

from pybuild.client.builders import LOCAL, Builder, Builders, with_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.commandline.parser import Parsed

_FILES = (("ca", "tlscacert"), ("cert", "tlscert"), ("key", "tlskey"))


def chosen(parsed: Parsed) -> Builder | None:
    """Return the server that a command is for: ``-H``, ``$PYBUILD_HOST``, or the one in use.

    None is this process.

    Raises:
        UsageError: no such builder, or TLS options without a server.
    """
    host = parsed.one("host") or os.environ.get("PYBUILD_HOST", "")
    given = {field: parsed.one(option) for field, option in _FILES}
    server_name = parsed.one("tlsservername")
    builder: Builder | None = None
    if "://" in host:
        builder = Builder("", host)
    elif host != LOCAL:
        builders = Builders.load()
        name = host or builders.in_use
        builder = builders.get(name) if name and name != LOCAL else None
    if builder is None:
        if server_name or any(given.values()):
            from pybuild.model.errors import UsageError

            raise UsageError("TLS options need a server", hints=["name it with -H"])
        return None
    return with_files(builder, given, server_name)


def tls_files(parsed: Parsed) -> dict[str, str]:
    """Return the TLS files of a command line by field."""
    return {field: parsed.one(option) for field, option in _FILES}
