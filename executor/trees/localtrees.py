"""Where the client's directories come from: at hand, or brought when a build first wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pybuild.model.errors import UserError
from pybuild.model.ops import LocalSource
from pybuild.model.snapshot import LocalTree

TellProgress = Callable[[str, int, int, bool], None]
"""Called with what is under way, bytes so far, bytes in all (0: not known), and whether it is done."""


class LocalTrees(Protocol):
    """Brings directories of a client that is not on this machine."""

    async def tree(self, op: LocalSource, tell: TellProgress) -> LocalTree:
        """Return the directory that holds what *op* selects.

        Raises:
            UserError: the client has none of that name. EnvironmentFault: it went away.
        """
        ...


class GivenTrees:
    """Directories of this machine, by the names of their local sources."""

    def __init__(self, trees: Mapping[str, LocalTree]) -> None:
        self._trees = dict(trees)

    async def tree(self, op: LocalSource, tell: TellProgress) -> LocalTree:
        tree = self._trees.get(op.name)
        if tree is None:
            raise UserError(f'no directory was given for the context "{op.name}"')
        return tree
