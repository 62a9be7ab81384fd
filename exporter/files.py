"""Writes results outside the store: directories, tars and image archives [OUT-3..6].

Everything appears whole or not at all: archives are written beside their place and renamed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from pybuild.exporter.atomicfile import whole_file
from pybuild.exporter.directories import make_output, open_output
from pybuild.exporter.output import Output
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.exporter.built import Built


async def write_local(engine: Engine, output: Output, built: Sequence[Built]) -> None:
    """``type=local``: the file tree as a directory of the invoking user [OUT-5, OUT-16, OUT-17].

    Raises:
        UsageError: one directory is to hold several trees and nothing that is in one of them alone.
    """
    split = output.flag("platform-split", any(one.is_one_of_many for one in built))
    if output.replaces and len(built) > 1 and not split:
        raise UsageError('output mode "delete" needs a directory for each platform')
    top = os.path.abspath(output.dest)
    async with AsyncExitStack() as stack:
        trees: list[dict[str, Any]] = []
        fds = {top: open_output(top, make=True)}
        stack.callback(os.close, fds[top])
        for one in built:
            shares = one.is_one_of_many and not split
            tree = await stack.enter_async_context(_tree(engine, output, one, shares=shares))
            dest = os.path.join(top, one.folder) if split else top
            if dest not in fds:
                fds[dest] = open_output(dest, make=True)
                stack.callback(os.close, fds[dest])
            place = {"dest": list(fds).index(dest), "folder": one.folder if split else ""}
            trees.append({**tree, **place, "stamp": split, "name": str(one.lowered.platform)})
        await engine.workers.call(
            "pybuild.executor.files.export:local_job",
            {"trees": trees, "replaces": output.replaces},
            fds=list(fds.values()),
        )


async def write_tar(engine: Engine, output: Output, built: Sequence[Built]) -> None:
    """``type=tar``: the file tree as a tar file, or on standard output [OUT-6]."""
    with whole_file(output.dest) as fd:
        async with AsyncExitStack() as stack:
            trees: list[dict[str, Any]] = []
            for one in built:
                tree = await stack.enter_async_context(_tree(engine, output, one))
                trees.append({**tree, "prefix": one.folder if one.is_one_of_many else ""})
            trees.sort(key=lambda tree: str(tree["prefix"]))
            await engine.workers.call(
                "pybuild.executor.files.export:tar_job", {"trees": trees}, fds=[fd]
            )


@asynccontextmanager
async def _tree(
    engine: Engine, output: Output, one: Built, *, shares: bool = False
) -> AsyncGenerator[dict[str, Any]]:
    """Give the job arguments to mount a result's tree read-only, with its attestations in it.

    Args:
        shares: with those of other platforms, so that names must say which it is.
    """
    deltas = one.snapshot.deltas
    lowers = await engine.layers().ensure(deltas, lambda event: None)
    tree = {**await engine.tree_args(lowers), "epoch": output.epoch(one.lowered.epoch)}
    if not one.attestations:
        yield tree
        return
    from pybuild.exporter.attest.write import attestation_files, with_files

    files = await attestation_files(
        engine,
        deltas,
        one.attestations,
        prefix=output.attrs.get("attestation-prefix", ""),
        platform=one.lowered.platform if shares else None,
    )
    async with with_files(engine, tree, files) as whole:
        yield whole


async def write_archive(
    engine: Engine, output: Output, descriptor: Descriptor, names: Sequence[Reference]
) -> None:
    """``type=oci`` and ``type=docker``: one file, a directory with ``tar=false``, or stdout."""
    from pybuild.image.archive import (
        NamedImage,
        write_docker_archive,
        write_oci_archive,
        write_oci_layout,
    )

    blobs = engine.store.blobs
    texts = [str(name) for name in names]
    if not output.flag("tar", True):
        where = (output.dest, blobs.path, descriptor, texts)
        await asyncio.to_thread(write_oci_layout, *where, opened=make_output)
        return
    write = write_oci_archive if output.type == "oci" else write_docker_archive
    with whole_file(output.dest) as fd, os.fdopen(os.dup(fd), "wb") as file:
        await asyncio.to_thread(write, file, blobs.path, [NamedImage(descriptor, texts)])
