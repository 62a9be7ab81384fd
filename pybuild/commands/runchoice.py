"""The choice that ``pybuild run`` has: a process by itself, or a container that has a monitor."""

from __future__ import annotations

from pybuild.commandline.parser import Parsed

_ALONE = frozenset(
    ("config", "debug", "entrypoint", "env", "help", "hostname", "interactive", "network")
    + (
        "mount",
        "platform",
        "publish",
        "pull",
        "quiet",
        "read-only",
        "rm",
        "root",
        "tmpfs",
        "user",
        "volume",
    )
    + ("volumes-from", "workdir")
)
"""Options of a process that nothing outlives, and that needs no monitor: our streams are its own."""


def main(parsed: Parsed) -> int:
    """Run a command in an image, in the cheaper of the two ways.

    Each way loads what it needs alone: a monitor's half takes as long to load as a short command.
    """
    if _ALONE.issuperset(parsed.values):
        from pybuild.commands.run import main as run_alone

        return run_alone(parsed)
    from pybuild.commands.runcontainer import run_container

    return run_container(parsed)
