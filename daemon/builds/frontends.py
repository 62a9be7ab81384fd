"""The frontends of one build: a request to one of them becomes a result, whose trees are made later [6]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from pybuild.buildkit.pb.ops import Definition
from pybuild.buildkit.pb.sourcepolicy import Policy
from pybuild.buildkit.policies import read_policies
from pybuild.builds.lookups import Lookups, noting
from pybuild.builds.provenance import LookupLedger, Solve
from pybuild.daemon.builds.frontendimage import ImageFrontendHost, run_frontend
from pybuild.daemon.builds.producers import Producers
from pybuild.daemon.control.accounts import BuildAccount
from pybuild.daemon.frontend.attrs import CMDLINE, SOURCE, read_attrs
from pybuild.daemon.frontend.dockerfile import solve_dockerfile
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.llbload import load_definition
from pybuild.daemon.frontend.results import Result
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.sources import UsedSources
from pybuild.frontend.giturl import without_credentials
from pybuild.frontend.lowering.frontends import BUILT_IN, is_built_in
from pybuild.frontend.lowering.interface import FrontendImage, Lowered
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import Vertex
from pybuild.model.policy import Policies

GATEWAY = "gateway.v0"
MOST_DEEP = 8
MOST_FRONTENDS = 32
RUN_IMAGE = "pybuild.frontend"
"""An attribute of our own clients: ``image`` runs a frontend's image also where its language is built in."""
_SOLVE_BYTES = 256 << 10  # that an answer takes, however short the question


class FrontendHost(ImageFrontendHost, Protocol):
    """The build of frontends, as far as they know it."""

    @property
    def ledger(self) -> LookupLedger: ...

    @property
    def account(self) -> BuildAccount: ...

    @property
    def producers(self) -> Producers: ...

    @property
    def is_driven(self) -> bool:
        """Whether the client makes the result: it may hand in again what it gets."""
        ...

    def hold(self, size: int) -> None:
        """Let *size* bytes count for the build.

        Raises:
            RpcError: too much is held.
        """
        ...

    def borrow_secrets(self, definitions: Iterable[Definition]) -> None:
        """Find the secrets of the steps in *definitions* where these were made [MNT-18]."""
        ...

    def add_producer(self, definition: Definition, document: dict[str, object]) -> None:
        """Note the request that made *definition*."""
        ...


class Frontends:
    """All of one build.

    Attributes:
        references: the trees that they have given, by id.
        lowered: what is known of the images that the built-in one defined, by the tree's id.
    """

    def __init__(self, build: FrontendHost) -> None:
        self._build = build
        self.references: dict[str, LazyTree] = {}
        self.lowered: dict[str, Lowered] = {}
        self._running = 0

    async def solve(
        self,
        frontend: str,
        opts: Mapping[str, str],
        definition: Definition | None,
        inputs: Mapping[str, Definition],
        policies: Iterable[Policy],
        depth: int,
    ) -> Result:
        """Run a frontend, or take a definition as it is; the trees are made later.

        Args:
            policies: judge its sources beside those of the build.
            depth: of the frontends in containers that it is part of.

        Raises:
            PybuildError: it cannot be done.
        """
        build = self._build
        texts = sum(len(name) + len(value) for name, value in opts.items())
        definitions = [*inputs.values(), *([] if definition is None else [definition])]
        build.hold(_SOLVE_BYTES + texts + sum(one.ByteSize() for one in definitions))
        rules = read_policies(policies, build.scope.policies)
        if frontend and definition is not None and len(definition.defs):
            raise UserError("cannot solve with both Definition and Frontend specified")
        if not frontend:
            if definition is None or not len(definition.defs):
                return Result()
            build.borrow_secrets([definition])
            vertex = await load_definition(definition, build.scope, rules)
            result = Result(single=LazyTree(vertex, build.scope.snapshot, lambda: definition))
            build.ledger.solves.append(Solve(request=None, results=_by_id(result.references())))
        elif frontend == GATEWAY and not _is_ours(opts):
            image = FrontendImage(opts.get(SOURCE, ""), opts.get(CMDLINE, ""))
            result = await self._run_image(image, opts, inputs, rules, depth)
        elif frontend in (BUILT_IN, GATEWAY):
            result = await self._dockerfile(frontend, opts, inputs, rules, depth)
        else:
            raise UserError(f"frontend {frontend} not found")
        for reference in result.references():
            self.references[reference.id] = reference
        return result

    async def _dockerfile(
        self,
        frontend: str,
        opts: Mapping[str, str],
        inputs: Mapping[str, Definition],
        policies: Policies | None,
        depth: int,
    ) -> Result:
        build, lookups = self._build, Lookups()
        # The built-in one also answers for its own image, whose language the file need not name.
        given = {key: text for key, text in opts.items() if key not in (SOURCE, CMDLINE, RUN_IMAGE)}
        frontend_request = FrontendRequest(
            frontend=BUILT_IN, args=given, inputs=build.producers.of_inputs(inputs)
        )
        is_settled = frontend == GATEWAY or CMDLINE in opts
        attrs = replace(read_attrs(given), policies=policies, any_frontend=is_settled)
        account = build.account
        account.context = without_credentials(attrs.context) or attrs.context_key
        account.filename, account.target = attrs.filename, attrs.target
        if attrs.no_cache or attrs.no_cache_filter:  # memos stand for old results [KEY-11]
            build.scope.afterwards(build.scope.store.forget_memos)
        await build.scope.imports.add(attrs.cache_imports)
        build.borrow_secrets(inputs.values())
        vertices: dict[str, Vertex] = {}
        for name, definition in inputs.items():
            vertices[name] = await load_definition(definition, build.scope, policies)
        with noting(lookups):
            answer = await solve_dockerfile(build.scope, attrs, vertices, build.teller)
        if isinstance(answer, FrontendImage):
            forwarded = {**opts, CMDLINE: answer.cmdline, SOURCE: answer.source}
            return await self._run_image(answer, forwarded, inputs, policies, depth)
        account.dockerfile = answer.dockerfile
        self.lowered |= answer.lowered
        references = answer.result.references()
        build.ledger.solves.append(
            Solve(request=frontend_request, results=_by_id(references), lookups=lookups)
        )
        if build.is_driven:
            document = frontend_request.document(UsedSources())
            for reference in references:
                written = await build.scope.in_thread(reference.definition)
                if written is not None:
                    build.add_producer(written, document)
        return answer.result

    async def _run_image(
        self,
        image: FrontendImage,
        opts: Mapping[str, str],
        inputs: Mapping[str, Definition],
        policies: Policies | None,
        depth: int,
    ) -> Result:
        """Run a frontend that is an image."""
        build, lookups = self._build, Lookups()
        if depth >= MOST_DEEP:
            raise UserError(f"frontends may call one another {MOST_DEEP} deep")
        if self._running >= MOST_FRONTENDS:
            raise UserError(f"a build has at most {MOST_FRONTENDS} frontends at once")
        self._running += 1
        try:
            with noting(lookups):
                result = await run_frontend(build, image, opts, inputs, policies, lookups, depth)
        except PybuildError as error:
            raise error.with_spans(image.spans) from error.__cause__
        finally:
            self._running -= 1
        request = FrontendRequest(
            frontend=GATEWAY, args=opts, inputs=build.producers.of_inputs(inputs)
        )
        # It comes first: the solves of the frontend itself have the same trees.
        solve = Solve(request=request, results=_by_id(result.references()), lookups=lookups)
        build.ledger.solves.insert(0, solve)
        return result

    def release(self) -> None:
        """Let go of what clients have sent."""
        self.references.clear()
        self.lowered.clear()


def _by_id(trees: Iterable[LazyTree]) -> dict[str, Vertex]:
    return {tree.id: tree.vertex for tree in trees}


def _is_ours(opts: Mapping[str, str]) -> bool:
    """Whether the built-in frontend answers for the image that *opts* name.

    Raises:
        UserError: they name none.
    """
    source = opts.get(SOURCE, "")
    if not source:
        raise UserError("no source specified for gateway")
    try:
        return opts.get(RUN_IMAGE) != "image" and is_built_in(source)
    except ValueError as error:
        raise UserError(f"invalid frontend: {error}") from error
