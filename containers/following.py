"""A container that somebody follows from here: which of its streams, and until when."""

from __future__ import annotations

from pybuild.containers.attaching import Attached, terminal_size
from pybuild.containers.order import StreamAttachment
from pybuild.model.border import packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from pybuild.containers.container import Container
    from pybuild.containers.lines import LocalLine


def attachment_of(container: Container, streams: Collection[str]) -> StreamAttachment:
    """Return the order for who is there from the first byte on, at a terminal or not."""
    return StreamAttachment(
        stdin=container.config.stdin and "stdin" in streams,
        stdout="stdout" in streams,
        stderr="stderr" in streams,
        waits=True,
        removes=container.config.auto_remove,
        size=terminal_size(),
    )


def attached_to(
    connection: LocalLine,
    container: Container,
    attachment: StreamAttachment,
    keys: bytes,
    *,
    proxies: bool,
) -> int | None:
    """Attach to a container that runs; return its status at its end, None where we left it."""
    attached = Attached(
        connection,
        stdin=attachment.stdin,
        terminal=container.config.tty,
        keys=keys,
        proxies=proxies,
    )
    attached.say("attach", packed(attachment))
    return followed(attached, container)


def followed(attached: Attached, container: Container) -> int | None:
    """Return a container's status at its end, None where we left it."""
    status = attached.follow()
    if status is None:
        container.note("detach")
    return status
