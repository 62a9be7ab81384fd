"""All services that a build server may call during one build, made from its request."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from pybuild.builds.contextfiles import MAX_DOCKERFILE_BYTES
from pybuild.builds.contextkinds import ContextKind, kind_of
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.client.auth import auth
from pybuild.client.exports import EXPORT, Exports
from pybuild.client.filesync import file_sync
from pybuild.client.inputs import OfferedInputs, gather
from pybuild.client.secrets import secrets
from pybuild.client.session import ClientSession
from pybuild.engine.abandonable import abandonable
from pybuild.net.grpc.calls import Handler
from pybuild.registry.client.credentials import DockerCredentials

if TYPE_CHECKING:
    from pybuild.client.content import BlobDirectory


@asynccontextmanager
async def services(
    request: BuildRequest,
    exports: Exports | None = None,
    caches: Mapping[str, BlobDirectory] | None = None,
) -> AsyncGenerator[tuple[OfferedInputs, ClientSession]]:
    """Give the inputs of a build, and the session that serves them; both for the context.

    Raises:
        UserError: there is no such context, Dockerfile or agent.
    """
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="pybuild-remote-"))
        offered = await abandonable(gather, request, StandardInput(), scratch)
        if offered.download:
            target = os.path.join(offered.directories["dockerfile"], "Dockerfile")
            await _download(offered.download, target)
        if request.attestations and kind_of(request.context) is ContextKind.DIRECTORY:
            from pybuild.exporter.attest.vcs import version_control

            offered.attrs |= await version_control(request.context, os.environ)
        sockets: Mapping[str, str] = {}
        if request.ssh:
            from pybuild.client.agents import agent_sockets

            sockets = await stack.enter_async_context(agent_sockets(request.ssh))
        handlers: dict[str, Handler] = {
            **file_sync(offered.directories, git_modes=request.git_modes),
            **secrets({id: secret.read for id, secret in request.secrets.items()}),
            **auth(DockerCredentials(os.environ, request.logins)),
            **_optional_services(offered, sockets, exports, caches or {}),
        }
        yield offered, ClientSession(handlers, shared_key=offered.shared_key)


def _optional_services(
    offered: OfferedInputs,
    sockets: Mapping[str, str],
    exports: Exports | None,
    caches: Mapping[str, BlobDirectory],
) -> dict[str, Handler]:
    """Return the services that are offered only when there is something behind them."""
    handlers: dict[str, Handler] = {}
    stores = {**offered.stores, **caches}
    if exports is not None and exports.store is not None:
        stores[EXPORT] = exports.store
    if stores:
        from pybuild.client.content import content

        handlers |= content(stores)
    if offered.uploads:
        from pybuild.client.upload import upload

        handlers |= upload(offered.uploads)
    if sockets:
        from pybuild.client.ssh import ssh

        handlers |= ssh(sockets)
    if exports is not None and exports.targets:
        from pybuild.client.filesend import file_send

        handlers |= file_send(exports.targets, exports.faults)
    return handlers


async def _download(url: str, path: str) -> None:
    """Fetch a Dockerfile: it is the client who names it, so the client's network has it."""
    from pybuild.executor.sources.download import Downloader, Limits

    limits = Limits(max_bytes=MAX_DOCKERFILE_BYTES)
    downloader = Downloader(os.environ, limits)
    try:
        await downloader.fetch(url, path)
    finally:
        await downloader.close()
