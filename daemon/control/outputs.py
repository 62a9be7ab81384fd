"""Delivers what a build made: to its client by the session, to the store, to registries [7.3]."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pybuild.daemon.control.results import Result
from pybuild.daemon.control.scope import Scope
from pybuild.daemon.pb import control as pb
from pybuild.daemon.session.filesend import send_stream, send_tree
from pybuild.daemon.session.sessions import Session
from pybuild.export import Built, Made, keep_image, make_image, output_names
from pybuild.frontend.lowering import Lowered
from pybuild.image.archive import write_docker_archive, write_oci_archive
from pybuild.internal import InternalStep, internal_step
from pybuild.model.errors import UserError
from pybuild.model.reference import Reference
from pybuild.model.snapshot import Snapshot
from pybuild.request import Output

_TITLES = {
    "image": "exporting to image",
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
}
# What concerns other stores than ours, or says what is so anyway.
_IGNORED = frozenset(
    ("unpack", "dangling-name-prefix", "prefer-nondist-layers", "name-canonical", "oci-artifact")
    + ("registry.insecure", "attestation-inline", "attestation-prefix", "force-compression")
    + ("rewrite-timestamp", "danglingname", "unpack-sync", "index-disallowed")
)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliverable:
    """One tree of a result with what its image's config says; *key* is its id in the result."""

    key: str
    lowered: Lowered
    snapshot: Snapshot


async def export_all(
    scope: Scope, request: pb.SolveRequest, result: Result, trees: Sequence[Deliverable]
) -> dict[str, str]:
    """Run every exporter, and return what they say together.

    Raises:
        UserError: an exporter that there is not, or one that cannot do it.
    """
    exporters = [(one.Type, dict(one.Attrs)) for one in request.Exporters]
    if not exporters and request.ExporterDeprecated:
        exporters = [(request.ExporterDeprecated, dict(request.ExporterAttrsDeprecated))]
    response: dict[str, str] = {}
    for number, (kind, attrs) in enumerate(exporters):
        if kind == "cacheonly":
            continue
        if kind not in _TITLES:
            raise UserError(f"exporter {kind} could not be found")
        async with internal_step(_TITLES[kind], scope.emit, scope.engine.clock) as step:
            export = _Export(scope, number, kind, attrs, result, trees, step)
            response |= await export.run()
    return response


class _Export:
    """One exporter at work."""

    def __init__(
        self,
        scope: Scope,
        number: int,
        kind: str,
        attrs: Mapping[str, str],
        result: Result,
        trees: Sequence[Deliverable],
        step: InternalStep,
    ) -> None:
        self._scope = scope
        self._number = number
        self._kind = kind
        self._attrs = attrs
        self._result = result
        self._trees = [self._dated(tree) for tree in trees]
        self._step = step

    async def run(self) -> dict[str, str]:
        match self._kind:
            case "local":
                await self._local()
                return {}
            case "tar":
                await self._tar()
                return {}
            case _:
                return await self._image()

    def _dated(self, tree: Deliverable) -> Deliverable:
        text = self._attrs.get("source-date-epoch", "")
        if not text:
            return tree
        if not text.isdigit():
            raise UserError(f"invalid SOURCE_DATE_EPOCH: {text}")
        return replace(tree, lowered=replace(tree.lowered, epoch=int(text)))

    # --- images -----------------------------------------------------------------------------------

    async def _image(self) -> dict[str, str]:
        engine = self._scope.engine
        attrs = {
            key: value
            for key, value in self._attrs.items()
            if key not in _IGNORED and key != "source-date-epoch"
        }
        attrs = {
            key: value or ("true" if key in ("push", "store", "tar") else "")
            for key, value in attrs.items()
        }
        output = Output(type=self._kind, attrs=attrs)
        names = output_names((), output)
        built = [Built(lowered=tree.lowered, result=tree.snapshot) for tree in self._trees]
        if not built:
            raise UserError("no tree to make an image of")
        made = await make_image(engine, output, built, self._step)
        facts = _facts(made, names)
        if self._kind == "image":
            await keep_image(engine, output, made, names, self._step)
        else:
            await self._archive(made, names, facts)
        return facts

    async def _archive(
        self, made: Made, names: Sequence[Reference], facts: Mapping[str, str]
    ) -> None:
        write = write_oci_archive if self._kind == "oci" else write_docker_archive
        blob_path = self._scope.store.blobs.path
        texts = [str(name) for name in names]

        async def work(fd: int) -> None:
            def run() -> None:
                with os.fdopen(os.dup(fd), "wb", buffering=_PIECE_BYTES) as file:
                    write(file, blob_path, made.descriptor, texts)

            await asyncio.to_thread(run)

        self._step.say("sending tarball")
        async with Piped(work) as pieces:
            await send_stream(
                self._session(),
                pieces,
                exporter=self._number,
                facts=facts,
                on_progress=self._told("sending tarball"),
            )

    # --- trees ------------------------------------------------------------------------------------

    async def _tar(self) -> None:
        if len(self._trees) != 1:
            raise UserError("output type=tar cannot hold several platforms here: use type=local")
        arguments = await self._tree(self._trees[0])

        async def work(fd: int) -> None:
            await self._scope.engine.workers.call(
                "pybuild.executor.export:tar_job", arguments, fds=[fd]
            )

        async with Piped(work) as pieces:
            await send_stream(
                self._session(),
                pieces,
                exporter=self._number,
                on_progress=self._told("sending tarball"),
            )

    async def _local(self) -> None:
        trees: list[dict[str, Any]] = []
        split = self._attrs.get("platform-split", "").lower()
        several = self._result.many is not None
        for tree in self._trees:
            name = ""
            if several and split not in ("0", "false"):
                name = str(tree.lowered.platform).replace("/", "_")
            mount = self._scope.store.scratch("mount")
            os.mkdir(mount)
            trees.append({**await self._tree(tree), "prefix": name, "mount_dir": mount})

        async def work(theirs: Any) -> None:
            await self._scope.engine.workers.call(
                "pybuild.daemon.session.treesend:send_job",
                {"trees": trees, "epoch": self._trees[0].lowered.epoch if self._trees else None},
                fds=[theirs.fileno()],
            )

        try:
            await send_tree(
                self._session(),
                work,
                exporter=self._number,
                replaces=self._attrs.get("mode") == "delete",
                on_progress=self._told("copying files"),
            )
        finally:
            for sent in trees:
                os.rmdir(sent["mount_dir"])

    async def _tree(self, tree: Deliverable) -> dict[str, Any]:
        engine = self._scope.engine
        lowers = await engine.layers().ensure(tree.snapshot.deltas, lambda _: None)
        return {**await engine.tree_args(lowers), "epoch": tree.lowered.epoch}

    def _session(self) -> Session:
        if self._scope.session is None:
            raise UserError(f"exporter {self._kind} needs a session")
        return self._scope.session

    def _told(self, id: str) -> Callable[[int], None]:
        return lambda sent: self._step.transfer(id, sent, 0)


def _facts(made: Made, names: Sequence[Reference]) -> dict[str, str]:
    """What clients are told of an image."""
    facts = {key: str(value) for key, value in made.metadata(names).items()}
    document = json.dumps(made.descriptor.to_json(), separators=(",", ":")).encode()
    facts["containerimage.descriptor"] = base64.b64encode(document).decode()
    return facts


class Piped:
    """What *work* writes to a descriptor, as pieces; an async context manager.

    Leaving it waits for *work*, and raises what went wrong there.
    """

    def __init__(self, work: Callable[[int], Awaitable[None]]) -> None:
        self._work = work

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._task = asyncio.ensure_future(self._run())
        return self._pieces()

    async def __aexit__(self, *exc: object) -> None:
        if self._read >= 0:
            os.close(self._read)  # whoever still writes is told so
            self._read = -1
        if exc[0] is not None:
            with suppress(Exception):
                await self._task
        else:
            await self._task

    async def _run(self) -> None:
        try:
            await self._work(self._write)
        finally:
            os.close(self._write)

    async def _pieces(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while True:
            readable = loop.create_future()
            loop.add_reader(self._read, _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._read)
            try:
                data = os.read(self._read, _PIECE_BYTES)
            except BlockingIOError:
                continue
            if not data:
                break
            yield data
        await asyncio.shield(self._task)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
