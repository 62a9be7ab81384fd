"""Delivers a build's results: to its client by the session, to the store, to registries [7.3]."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.session.pieces import pieces
from pybuild.buildkit.session.threads import finish_in
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.session.content import SessionContent
from pybuild.daemon.session.filesend import send_stream, send_tree
from pybuild.daemon.session.sessions import Session
from pybuild.engine.progress import InternalStep, internal_step
from pybuild.exporter.attest.write import attestation_files, with_files
from pybuild.exporter.built import Built, Made
from pybuild.exporter.export import keep_image, make_image
from pybuild.exporter.output import Output, output_names
from pybuild.exporter.pipe import Piped
from pybuild.frontend.words.environment import parse_epoch
from pybuild.image.archive import (
    NamedImage,
    reachable,
    write_docker_archive,
    write_oci_archive,
)
from pybuild.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from pybuild.model.errors import UserError
from pybuild.model.reference import Reference

_TITLES = {
    "image": "exporting to image",
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
}
# What concerns other stores than ours, or says what is so anyway.
_IGNORED = frozenset(
    ("unpack", "dangling-name-prefix", "prefer-nondist-layers", "attestation-prefix")
    + ("danglingname", "unpack-sync", "index-disallowed")
)
_PIECE_BYTES = 1 << 20


def exporters_of(request: pb.SolveRequest) -> list[tuple[str, dict[str, str]]]:
    """Return the requested exporters, which are known before anything is built.

    Raises:
        UserError: one that there is not, or attributes that are wrong.
    """
    exporters = [(one.Type, dict(one.Attrs)) for one in request.Exporters]
    if not exporters and request.ExporterDeprecated:
        exporters = [(request.ExporterDeprecated, dict(request.ExporterAttrsDeprecated))]
    for kind, attrs in exporters:
        if kind == "cacheonly":
            continue
        if kind not in _TITLES:
            raise UserError(f'exporter "{kind}" could not be found')
        _output(kind, attrs)
    return exporters


async def export_all(
    scope: Scope, request: pb.SolveRequest, built: Sequence[Built]
) -> tuple[dict[str, str], dict[int, Descriptor]]:
    """Run every exporter; return their response together, and the images by the exporter's place.

    Raises:
        UserError: an exporter that there is not, or one that cannot do it.
    """
    response: dict[str, str] = {}
    images: dict[int, Descriptor] = {}
    epoch = request.FrontendAttrs.get("build-arg:SOURCE_DATE_EPOCH")
    is_number = epoch is not None and (not epoch or parse_epoch(epoch) is not None)
    for number, (kind, attrs) in enumerate(exporters_of(request)):
        if epoch is not None and is_number:
            attrs.setdefault("source-date-epoch", epoch)
        if kind == "cacheonly":
            continue
        async with internal_step(_TITLES[kind], scope.emit, scope.engine.clock) as step:
            export = _Export(scope, number, kind, attrs, built, step)
            response |= await export.run()
            if export.made is not None:
                images[number] = export.made.descriptor
    return response, images


class _Export:
    """One exporter at work.

    Attributes:
        made: the image that it made, if it makes one.
    """

    def __init__(
        self,
        scope: Scope,
        number: int,
        kind: str,
        attrs: Mapping[str, str],
        built: Sequence[Built],
        step: InternalStep,
    ) -> None:
        self._scope = scope
        self._number = number
        self._kind = kind
        self._output = _output(kind, attrs)
        self._step = step
        self.made: Made | None = None
        self._built = built

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

    # --- images -----------------------------------------------------------------------------------

    async def _image(self) -> dict[str, str]:
        engine, output = self._scope.engine, self._output
        names = output_names((), output)
        if not self._built:
            raise UserError("no tree to make an image of")
        self.made = made = await make_image(engine, output, self._built, self._step, names)
        facts = _facts(made, names)
        if self._kind == "image":
            await keep_image(engine, output, made, names, self._step)
        elif not output.flag("tar", True):
            await self._layout(made)
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
                    write(file, blob_path, [NamedImage(made.dated, texts)])

            # A thread of its own: it waits for a client, who may read as slowly as it likes.
            with ThreadPoolExecutor(1, thread_name_prefix="archive") as pool:
                await finish_in(pool, run)

        async with Piped(work) as pieces:
            await send_stream(
                self._session(),
                pieces,
                exporter=self._number,
                facts=facts,
                on_progress=self._told("sending tarball"),
            )

    async def _layout(self, made: Made) -> None:
        """Send the blobs to a store of the client, which writes the index itself [OUT-3]."""
        content = SessionContent(self._session(), "export")
        if not content.offered():
            raise UserError(f"exporter {self._kind} with tar=false: the client offers no store")
        blob_path = self._scope.store.blobs.path
        blobs = await asyncio.to_thread(reachable, made.descriptor, blob_path)
        # What refers to others comes after them.
        for blob in sorted(blobs, key=lambda blob: (_depth(blob), blob.digest)):
            if await content.info(blob.digest) is None:
                await content.write(blob.digest, blob.size, pieces(blob_path(blob.digest)))
            self._step.transfer(blob.digest, blob.size, blob.size)

    # --- trees ------------------------------------------------------------------------------------

    async def _tar(self) -> None:
        async def work(fd: int) -> None:
            async with AsyncExitStack() as stack:
                trees: list[dict[str, Any]] = []
                for one in self._built:
                    arguments = await stack.enter_async_context(self._tree(one))
                    trees.append({**arguments, "prefix": one.folder if one.is_one_of_many else ""})
                trees.sort(key=lambda tree: str(tree["prefix"]))
                await self._scope.engine.workers.call(
                    "pybuild.executor.files.export:tar_job", {"trees": trees}, fds=[fd]
                )

        async with Piped(work) as pieces:
            await send_stream(
                self._session(),
                pieces,
                exporter=self._number,
                on_progress=self._told("sending tarball"),
            )

    async def _local(self) -> None:
        several = any(one.is_one_of_many for one in self._built)
        splits = self._output.flag("platform-split", several)
        async with AsyncExitStack() as stack:
            trees: list[dict[str, Any]] = []
            for one in self._built:
                mount = self._scope.store.scratch("mount")
                os.mkdir(mount)
                stack.callback(os.rmdir, mount)
                entered = self._tree(one, shares=several and not splits)
                arguments = await stack.enter_async_context(entered)
                prefix = one.folder if splits else ""
                name = one.key or str(one.lowered.platform)
                trees.append({**arguments, "prefix": prefix, "name": name, "mount_dir": mount})
            await self._send(trees)

    async def _send(self, trees: list[dict[str, Any]]) -> None:
        async def work(theirs: Any) -> None:
            await self._scope.engine.workers.call(
                "pybuild.daemon.session.treesend:send_job",
                {"trees": trees},
                fds=[theirs.fileno()],
            )

        await send_tree(
            self._session(),
            work,
            exporter=self._number,
            replaces=self._output.attrs.get("mode") == "delete",
            on_progress=self._told("copying files"),
        )

    @asynccontextmanager
    async def _tree(self, one: Built, *, shares: bool = False) -> AsyncGenerator[dict[str, Any]]:
        """Give the job arguments to mount a tree, with its attestations in it.

        Args:
            shares: with those of other platforms, so that names must say which it is.
        """
        engine = self._scope.engine
        deltas = one.snapshot.deltas
        lowers = await engine.layers().ensure(deltas, lambda _: None)
        epoch = self._output.epoch(one.lowered.epoch)
        arguments = {**await engine.tree_args(lowers), "epoch": epoch}
        files = await attestation_files(
            engine,
            deltas,
            one.attestations,
            prefix=self._output.attrs.get("attestation-prefix", ""),
            platform=one.lowered.platform if shares else None,
        )
        async with with_files(engine, arguments, files) as whole:
            yield whole

    def _session(self) -> Session:
        if self._scope.session is None:
            raise UserError(f"exporter {self._kind} needs a session")
        return self._scope.session

    def _told(self, id: str) -> Callable[[int], None]:
        return lambda sent: self._step.transfer(id, sent, 0)


def _output(kind: str, attrs: Mapping[str, str]) -> Output:
    """Return the output of a client's attributes; trees have few, and others mean nothing to them.

    Raises:
        UsageError: one that is wrong.
    """
    if kind in ("local", "tar"):
        split = ("platform-split", "mode") if kind == "local" else ()
        known = {"attestation-prefix", "source-date-epoch", *split}
        return Output(type=kind, attrs={k: v for k, v in attrs.items() if k in known})
    flags = ("push", "push-by-digest", "store", "tar", "force-compression", "name-canonical")
    given = {key: value for key, value in attrs.items() if key not in _IGNORED}
    return Output(
        type=kind,
        attrs={k: v or ("true" if k in flags else "") for k, v in given.items()},
    )


def _depth(blob: Descriptor) -> int:
    if blob.media_type in INDEX_TYPES:
        return 2
    return 1 if blob.media_type in MANIFEST_TYPES else 0


def _facts(made: Made, names: Sequence[Reference]) -> dict[str, str]:
    """Return the facts of an image in the response."""
    facts = {key: str(value) for key, value in made.metadata(names).items()}
    document = json.dumps(made.dated.to_json(), separators=(",", ":")).encode()
    facts["containerimage.descriptor"] = base64.b64encode(document).decode()
    return facts
