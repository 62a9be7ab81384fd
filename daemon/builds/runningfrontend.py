"""A frontend that drives a build by the gateway service: the client's own, or one in a container [6]."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from pybuild.buildkit.journal import Teller
from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.ops import Definition
from pybuild.buildkit.pb.sourcepolicy import Policy
from pybuild.builds.lookups import Lookups
from pybuild.daemon.builds.containers import BuildContainers
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.results import Result, read_result
from pybuild.net.grpc.status import Code, RpcError


class DrivenBuild(Protocol):
    """A build, as far as a frontend drives it."""

    @property
    def offered(self) -> Mapping[str, LazyTree]:
        """The trees of steps that failed, by the ids that errors have named."""
        ...

    @property
    def scope(self) -> Scope: ...

    @property
    def teller(self) -> Teller: ...

    def error(self, error: Exception) -> RpcError:
        """Return *error* as a client reads it."""
        ...

    async def solve(
        self,
        frontend: str,
        opts: Mapping[str, str],
        definition: Definition | None,
        inputs: Mapping[str, Definition],
        policies: Iterable[Policy] = (),
        *,
        depth: int = 0,
    ) -> Result:
        """Run a frontend, or take a definition as it is."""
        ...


class RunningFrontend:
    """A frontend at work. It knows the trees that it was given, and no others of the build.

    Args:
        depth: of the frontends in containers that brought it about.

    Attributes:
        inputs: the definitions of its request.
        lookups: its own, for provenance.
        containers: those that it has processes in.
        returned: its result, once it has returned that.
    """

    def __init__(
        self,
        build: DrivenBuild,
        inputs: Mapping[str, Definition],
        lookups: Lookups,
        depth: int = 0,
    ) -> None:
        self._build = build
        self._depth = depth
        self._references: dict[str, LazyTree] = {}
        self.inputs = inputs
        self.lookups = lookups
        self.containers = BuildContainers()
        self.returned: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    @property
    def scope(self) -> Scope:
        """The build's."""
        return self._build.scope

    @property
    def teller(self) -> Teller:
        """The build's."""
        return self._build.teller

    def error(self, error: Exception) -> RpcError:
        """Return *error* as the frontend reads it, with where it happened."""
        return self._build.error(error)

    def find(self, id: str) -> LazyTree:
        """Return a tree that it was given.

        Raises:
            RpcError: it was given none of that id.
        """
        tree = self._references.get(id) or self._build.offered.get(id)
        if tree is None:
            raise RpcError(Code.UNKNOWN, f"no such ref: {id}")
        return tree

    async def solve(self, request: pb.SolveRequest) -> Result:
        """Answer a request; its trees are the frontend's from now on.

        Raises:
            PybuildError, RpcError: it cannot be done.
        """
        imports = ((one.Type, dict(one.Attrs)) for one in request.CacheImports)
        await self.scope.imports.add(imports)
        result = await self._build.solve(
            request.Frontend,
            dict(request.FrontendOpt),
            request.Definition if request.HasField("Definition") else None,
            dict(request.FrontendInputs),
            request.SourcePolicies,
            depth=self._depth,
        )
        self._references |= {tree.id: tree for tree in result.references()}
        return result

    def end(self, request: pb.ReturnRequest) -> None:
        """Take its result, or why there is none.

        Raises:
            RpcError: there is one already, or it is made of what is not its own.
        """
        if self.returned.done():
            raise RpcError(Code.UNKNOWN, "the build has its result")
        if request.HasField("error") and request.error.code:
            status = request.error
            code = Code(status.code) if status.code in Code.__members__.values() else Code.UNKNOWN
            self.returned.set_exception(RpcError(code, status.message, status.SerializeToString()))
        else:
            known = {**self._build.offered, **self._references}
            self.returned.set_result(read_result(request.result, known))

    async def close(self) -> None:
        """End its processes."""
        await self.containers.close()
