"""The budget that writers of a store ask, where its size has a ceiling (`cache.space.ceiling` keeps it)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pybuild.cache.content.origins import Origin
from pybuild.model.errors import EnvironmentFault

TooMuch = Callable[[EnvironmentFault], None]


class Budget(Protocol):
    """Grants room before it is taken. Safe to use from threads, never on an event loop's."""

    @property
    def ceiling(self) -> int:
        """The bytes that the store may take."""
        ...

    def prepare(self) -> None:
        """Make room for something new of unknown size, before it is begun.

        Raises:
            EnvironmentFault: there is none, and nothing can be freed.
        """

    def settle(self) -> None:
        """Count the bytes written since the last count, before they are kept.

        Raises:
            EnvironmentFault: it was too much, and nothing can be freed.
        """

    def reserved(self, size: int) -> AbstractContextManager[None]:
        """Keep room for *size* bytes that are going to be written in the block.

        Raises:
            EnvironmentFault: there is none, and nothing can be freed.
        """
        ...

    def writing(self, path: str, too_much: TooMuch) -> AbstractContextManager[None]:
        """Watch what is written to *path* in the block.

        Args:
            too_much: called in another thread when the ceiling is reached; writing must end then.
        """
        ...

    def covers(self, path: str) -> bool:
        """Return whether *path* is a place that is watched."""
        ...

    def mounting(self, names: Sequence[str]) -> AbstractContextManager[None]:
        """Watch cache mounts, too, in the block, by their paths below the store: steps write to them."""
        ...

    def succeeding(self, origin: Origin) -> AbstractContextManager[None]:
        """Let the last result of *origin* go in the block, where nothing else can: a newer one comes."""
        ...

    def changed(self) -> None:
        """Look soon: something was committed or given up."""

    def close(self) -> None:
        """Stop watching."""
