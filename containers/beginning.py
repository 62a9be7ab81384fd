"""A container that was made a moment ago: its id noted, itself started, or taken away again with what failed."""

from __future__ import annotations

from pybuild.containers.containers import Containers
from pybuild.model.errors import PybuildError, UsageError, UserError
from pybuild.model.lightlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from pybuild.cache.store import Store
    from pybuild.containers.container import Container
    from pybuild.containers.order import StreamAttachment


def noted(store: Store, container: Container, cidfile: str) -> Container:
    """Return the container, whose id stands in *cidfile* where that is named [CTR-7].

    Raises:
        UsageError: it cannot be written, and there is no container.
    """
    try:
        if cidfile:
            with open(cidfile, "x", encoding="ascii") as file:
                file.write(container.config.id)
    except OSError as error:
        Containers(store).remove(container, volumes=True)
        raise UsageError(f"--cidfile {cidfile}: {(error.strerror or '').lower()}") from error
    return container


def started(
    store: Store,
    container: Container,
    attached: Sequence[tuple[_socket.socket, StreamAttachment]],
) -> Sequence[str]:
    """Return the warnings of its start; one that goes with its end goes if it cannot be started.

    Args:
        attached: as `Containers.start` has it.

    Raises:
        UserError, EnvironmentFault: it cannot be.
    """
    containers = Containers(store)
    try:
        return containers.start(container, attached=attached)
    except PybuildError:
        if container.config.auto_remove:
            remove_ended(containers, container)
        raise


def remove_ended(containers: Containers, container: Container) -> None:
    """Remove a container that goes with its end, unless somebody else was faster."""
    container.wait_gone()
    with suppress(UserError):
        containers.remove(container, force=True, volumes=True)
