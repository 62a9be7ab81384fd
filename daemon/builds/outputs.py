"""Delivers a build's results to its client, by the session [7.3]."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.session.pieces import pieces
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.results import CONFIG, Result
from pybuild.daemon.session.content import SessionContent
from pybuild.daemon.session.exporters import find_exporters
from pybuild.daemon.session.filesend import send_stream, send_tree
from pybuild.daemon.session.sessions import Session
from pybuild.engine.progress import InternalStep
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.exporter.annotations import is_annotation
from pybuild.exporter.built import Exported, MadeImage
from pybuild.exporter.check import check_names
from pybuild.exporter.output import Output
from pybuild.exporter.pipe import Piped
from pybuild.exporter.sink import Work
from pybuild.frontend.words.environment import parse_epoch
from pybuild.image.archive import reachable
from pybuild.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from pybuild.model.errors import UserError
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.executor.files.values import ExportTree
    from pybuild.exporter import treesend
else:
    treesend = WorkerModule("pybuild.exporter.treesend")

_TYPES = ("image", "oci", "docker", "local", "tar", "cacheonly")
_IMAGES = ("image", "oci", "docker")
_SAME = {"moby": "image"}
"""Docker's daemon has this one for its own store, as which clients take us."""
_BY_RESULT, _IMAGE_NAME = "*", "image.name"
# What concerns other stores than ours, or says what is so anyway.
_IGNORED = frozenset(
    ("unpack", "dangling-name-prefix", "prefer-nondist-layers", "attestation-prefix")
    + ("danglingname", "unpack-sync", "index-disallowed", "load", "prefer-image-digest")
)


def outputs_of(request: pb.SolveRequest) -> list[Output]:
    """Return the outputs that a client's exporters are, which are known before anything is built.

    Raises:
        UserError: an exporter that there is not, or attributes that are wrong.
    """
    exporters = [(one.Type, dict(one.Attrs)) for one in request.Exporters]
    if not exporters and request.ExporterDeprecated:
        exporters = [(request.ExporterDeprecated, dict(request.ExporterAttrsDeprecated))]
    return _read_outputs(request, exporters)


async def outputs_of_session(
    request: pb.SolveRequest, session: Session | None, result: Result
) -> list[Output]:
    """Return the outputs that the client chooses for the result, where it does that.

    Raises:
        UserError: an exporter that there is not, or the client fails.
    """
    if not request.EnableSessionExporter or session is None:
        return []
    trees = [tree.id for _, tree in result.each() if tree is not None]
    exporters = await find_exporters(session, result.metadata, trees)
    return _read_outputs(request, [(one.Type, dict(one.Attrs)) for one in exporters])


def _read_outputs(
    request: pb.SolveRequest, exporters: Iterable[tuple[str, dict[str, str]]]
) -> list[Output]:
    epoch = request.FrontendAttrs.get("build-arg:SOURCE_DATE_EPOCH")
    is_number = epoch is not None and (not epoch or parse_epoch(epoch) is not None)
    outputs: list[Output] = []
    for kind, attrs in exporters:
        kind = _SAME.get(kind, kind)
        if kind not in _TYPES:
            raise UserError(f'exporter "{kind}" could not be found')
        if epoch is not None and is_number:
            attrs.setdefault("source-date-epoch", epoch)
        if request.CompatibilityVersion and kind in _IMAGES:
            attrs.setdefault("compatibility-version", str(request.CompatibilityVersion))
        outputs.append(_output(kind, attrs))
    check_names([one for one in outputs if one.attrs.get("name") != _BY_RESULT], ())
    return outputs


def finished_outputs(outputs: Sequence[Output], metadata: Mapping[str, bytes]) -> list[Output]:
    """Return *outputs* with what the frontend's result says of its image: name and annotations.

    Raises:
        UserError: an image cannot have it.
    """
    names = [name for name in metadata if is_annotation(name)]
    finished: list[Output] = []
    for output in outputs:
        if output.is_image:
            attrs = {**output.attrs, **{name: _text(name, metadata[name]) for name in names}}
            if attrs.get("name") == _BY_RESULT and _IMAGE_NAME in metadata:
                attrs["name"] = _text(_IMAGE_NAME, metadata[_IMAGE_NAME])
            output = replace(output, attrs=attrs)
        finished.append(output)
    check_names(finished, ())
    return finished


def given_configs(request: pb.SolveRequest) -> dict[str, bytes]:
    """Return the image configs that a client gives its exporters, as a result's metadata has them."""
    return {
        name: value.encode()
        for one in request.Exporters
        for name, value in one.Attrs.items()
        if _is_config(name)
    }


def _is_config(name: str) -> bool:
    return name == CONFIG or name.startswith(f"{CONFIG}/")


def frontend_facts(metadata: Mapping[str, bytes]) -> dict[str, str]:
    """Return the facts in a result's metadata that its frontend means for the client."""
    return {
        name: value.decode(errors="replace")
        for name, value in metadata.items()
        if name.startswith("frontend.")
    }


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UserError(f"{name[:80]} of the frontend's result is no text") from None


def response_of(exported: Sequence[Exported]) -> dict[str, str]:
    """Return the facts of all images in the answer to the client."""
    facts: dict[str, str] = {}
    for one in exported:
        if one.made is not None:
            facts |= _facts(one.made, one.metadata)
    return facts


class SessionSink:
    """The client of a build, which has a place for the output *number*."""

    def __init__(self, scope: Scope, number: int) -> None:
        self._scope = scope
        self._number = number

    def title(self, output: Output) -> str:
        return output.title

    def is_repeatable(self, output: Output) -> bool:
        return False  # the client may have got a part of it

    async def file(self, output: Output, work: Work, step: InternalStep) -> None:
        await self._stream(output, work, step, {})

    async def image(
        self,
        output: Output,
        made: MadeImage,
        names: Sequence[Reference],
        archive: Work,
        step: InternalStep,
    ) -> None:
        if output.flag("tar", True):
            await self._stream(output, archive, step, _facts(made, made.metadata(names)))
            return
        # To a store of the client, which writes the index itself [OUT-3].
        content = SessionContent(self._session(output), "export")
        if not content.offered():
            raise UserError(f"exporter {output.type} with tar=false: the client offers no store")
        blob_path = self._scope.store.blobs.path
        blobs = await asyncio.to_thread(reachable, made.descriptor, blob_path)
        # What refers to others comes after them.
        for blob in sorted(blobs, key=lambda blob: (_depth(blob), blob.digest)):
            if await content.info(blob.digest) is None:
                await content.write(blob.digest, blob.size, pieces(blob_path(blob.digest)))
            step.transfer(blob.digest, blob.size, blob.size)

    async def directory(
        self, output: Output, trees: Sequence[ExportTree], step: InternalStep
    ) -> None:
        with ExitStack() as stack:
            mounted: list[ExportTree] = []
            for tree in trees:
                mount = self._scope.store.scratch("mount")
                os.mkdir(mount)
                stack.callback(os.rmdir, mount)
                mounted.append(tree._replace(prefix=tree.folder, mount_dir=mount))

            async def work(theirs: Any) -> None:
                sending = job(treesend.send_job, mounted)
                await self._scope.engine.workers.call(sending, fds=[theirs.fileno()])

            await send_tree(
                self._session(output),
                work,
                exporter=self._number,
                replaces=output.replaces,
                on_progress=_progress(step, "copying files"),
            )

    async def _stream(
        self, output: Output, work: Work, step: InternalStep, facts: Mapping[str, str]
    ) -> None:
        piped = Piped(work)
        async with piped as sent:
            taken = await send_stream(
                self._session(output),
                sent,
                exporter=self._number,
                facts=facts,
                on_progress=_progress(step, "sending tarball"),
            )
            if not taken:  # the client has it already
                piped.refuse()

    def _session(self, output: Output) -> Session:
        if self._scope.session is None:
            raise UserError(f"exporter {output.type} needs a session")
        return self._scope.session


def _progress(step: InternalStep, id: str) -> Callable[[int], None]:
    return lambda sent: step.transfer(id, sent, 0)


def _output(kind: str, attrs: Mapping[str, str]) -> Output:
    """Return the output of a client's attributes; trees have few, and others mean nothing to them.

    Raises:
        UsageError: one that is wrong.
    """
    if kind == "cacheonly":
        return Output(type=kind)
    if kind in ("local", "tar"):
        split = ("platform-split", "mode") if kind == "local" else ()
        known = {"attestation-prefix", "source-date-epoch", *split}
        return Output(type=kind, attrs={k: v for k, v in attrs.items() if k in known})
    flags = ("push", "push-by-digest", "store", "tar", "force-compression", "name-canonical")
    given = {
        key: value
        for key, value in attrs.items()
        if not (key in _IGNORED or key.startswith("attest:") or _is_config(key))
    }
    if kind == "docker" and given.get("compatibility-version") != "20":
        given.setdefault("oci-mediatypes", "true")  # on the command line they are Docker's
    return Output(
        type=kind,
        attrs={k: v or ("true" if k in flags else "") for k, v in given.items()},
    )


def _depth(blob: Descriptor) -> int:
    if blob.media_type in INDEX_TYPES:
        return 2
    return 1 if blob.media_type in MANIFEST_TYPES else 0


def _facts(made: MadeImage, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of an image in the protocol's words."""
    facts = {key: str(value) for key, value in metadata.items()}
    document = json.dumps(made.dated.to_json(), separators=(",", ":")).encode()
    facts["containerimage.descriptor"] = base64.b64encode(document).decode()
    return facts
