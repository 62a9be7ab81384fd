"""Those who wait for the end of a container's run, and who of them removes it then."""

from __future__ import annotations

from pybuild.containers.removal import remove_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.containers.loop import Loop
    from pybuild.containers.order import ContainerOrder
    from pybuild.containers.streams import AttachedClient, Streams
    from pybuild.executor.steps.spec import StepExit


class Waiters:
    """Those who wait, beside those who are attached to its streams.

    Attributes:
        remover: the one who removes the container when it has ended.
        returns: it is started again by whoever ends it, and so not removed.
    """

    def __init__(self) -> None:
        self._waiting: list[AttachedClient] = []
        self.remover: AttachedClient | None = None
        self.returns = False

    def add(self, client: AttachedClient) -> None:
        self._waiting.append(client)

    def leave(self, client: AttachedClient) -> None:
        if client in self._waiting:
            self._waiting.remove(client)

    def tell_end(
        self, streams: Streams, ended: StepExit, remover: AttachedClient | None = None
    ) -> None:
        """Tell all of them, and let them go, but for *remover*."""
        listeners = {*streams.clients, *self._waiting}
        streams.clients.clear()
        self._waiting.clear()
        for client in listeners:
            word = "kept" if self.returns and client is self.remover else "ended"
            client.send((word, ended.status))
            if client is not remover:
                client.close()

    def tell_last_end(
        self, loop: Loop, streams: Streams, ended: StepExit, order: ContainerOrder, *, has_run: bool
    ) -> None:
        """As `tell_end`, and have the container removed if it is to be; *has_run*: its program has begun."""
        remover = self.remover
        if not (order.auto_remove and has_run) or self.returns:
            remover = None
        elif remover is None or remover.is_gone:
            remove_in_child(order.root, order.id)
        self.tell_end(streams, ended, remover)
        if remover is not None:  # it has all loaded that it takes; but it may be killed before
            while not remover.is_gone:
                loop.turn(None)
            remove_in_child(order.root, order.id)
