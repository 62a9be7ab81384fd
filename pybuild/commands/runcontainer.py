"""``pybuild run`` of a container that has a monitor: in the background, or attached to it."""

from __future__ import annotations

import sys

from pybuild.arguments.networks import mode_of
from pybuild.commands.creating import create_container
from pybuild.commands.executing import check_terminal, detach_keys
from pybuild.commands.localstore import open_store
from pybuild.containers.attaching import Attached
from pybuild.containers.beginning import remove_ended, started
from pybuild.containers.containers import STOP_SECONDS, Containers
from pybuild.containers.following import attached_to, attachment_of, followed
from pybuild.containers.givenwords import followed_streams
from pybuild.containers.lines import LocalLine
from pybuild.containers.order import StreamAttachment
from pybuild.containers.starting import NotExecuted
from pybuild.model.errors import Cancelled, PybuildError, UserError, unwrap
from pybuild.networks.reading import check_published

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from pybuild.cache.store import Store
    from pybuild.commandline.parser import Parsed
    from pybuild.containers.container import Container

NOT_RUN = 125
"""The exit code of a ``run`` that came to nothing, as docker has it; 126 and 127 are a shell's."""


def run_container(parsed: Parsed) -> int:
    """Create a container, start it, and stay with it unless it is to run in the background."""
    try:
        return _run(parsed)
    except NotExecuted as error:
        raise error.copy_with(exit_code=error.status) from None
    except Exception as error:
        known = unwrap(error)
        if not isinstance(known, PybuildError) or isinstance(known, Cancelled):
            raise
        raise known.copy_with(exit_code=NOT_RUN) from known.__cause__


def _run(parsed: Parsed) -> int:
    if mode_of(parsed) == "host":
        check_published(parsed.many("publish"))
    detached = parsed.flag("detach")
    streams = followed_streams(parsed.many("attach"), detached=detached)
    keys = detach_keys(parsed)
    if parsed.flag("interactive") and parsed.flag("tty") and not detached:
        check_terminal()
    ours, theirs = LocalLine.pair()
    with ours, theirs:
        begun: list[Container] = []
        cancelled: Cancelled | None = None
        try:
            _start(parsed, None if detached else theirs, begun, streams)
        except Cancelled as error:  # which came too late, where it runs
            if detached or not begun:
                raise
            cancelled = error
        (container,) = begun
        theirs.close()
        if detached or streams == frozenset(("stdin",)):
            sys.stdout.write(container.config.id + "\n")
            sys.stdout.flush()
        if detached:
            return 0
        attached = Attached(
            ours,
            stdin=container.config.stdin and "stdin" in streams,
            terminal=container.config.tty,
            keys=keys,
            proxies=parsed.flag("sig-proxy", True),
            patience_s=STOP_SECONDS,
        )
        if cancelled is not None and not attached.hand_on_first(cancelled.exit_code - 128):
            raise cancelled
        status = followed(attached, container)
        # As long as our end is open, the monitor leaves its removal to us.
        if status is not None and parsed.flag("rm") and not attached.is_kept:
            with open_store(parsed) as store:
                remove_ended(Containers(store), container)
    return status or 0


def _start(
    parsed: Parsed, line: LocalLine | None, begun: list[Container], streams: Collection[str]
) -> None:
    """Have a container made and started; *begun* has it as soon as it runs."""

    def begin(store: Store, container: Container) -> None:
        attachment = attachment_of(container, streams)
        attached = [] if line is None else [(line, attachment)]
        for warning in started(store, container, attached):
            sys.stderr.write(f"warning: {warning}\n")
        begun.append(container)

    create_container(parsed, begin, attached=line is not None)


def attach(parsed: Parsed) -> int:
    """Attach our streams to a container that runs."""
    with open_store(parsed) as store:
        container = Containers(store).find(parsed.positionals[0])
    config = container.config
    stdin = config.stdin and not parsed.flag("no-stdin")
    connection = container.connect() if container.state().lives else None
    if connection is None:
        raise UserError(
            f"container {config.name} is not running: you cannot attach to one that is stopped",
            hints=["start it first: pybuild start -a"],
        )
    with connection:
        status = attached_to(
            connection,
            container,
            StreamAttachment(stdin=stdin),
            detach_keys(parsed),
            proxies=parsed.flag("sig-proxy", True),
        )
    return 0 if status is None else status


def start(parsed: Parsed, containers: Containers, container: Container) -> int:
    """Start a container, and stay with it: ``start -a``."""
    keys = detach_keys(parsed)
    streams = ("stdin", "stdout", "stderr")
    attachment = attachment_of(container, streams[0 if parsed.flag("interactive") else 1 :])
    if container.state().lives:
        connection = container.connect()
        if connection is None:
            raise UserError(f"container {container.config.name} has just ended")
        with connection:
            status = attached_to(connection, container, attachment, keys, proxies=True)
        return 0 if status is None else status
    ours, theirs = LocalLine.pair()
    with ours, theirs:
        for warning in containers.start(container, attached=[(theirs, attachment)]):
            sys.stderr.write(f"warning: {warning}\n")
        theirs.close()
        attached = Attached(ours, stdin=attachment.stdin, terminal=container.config.tty, keys=keys)
        status = followed(attached, container)
        if status is not None and container.config.auto_remove and not attached.is_kept:
            remove_ended(containers, container)
    return status or 0
