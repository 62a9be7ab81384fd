"""Builds as Docker's command line asked for them before buildx: `POST /build` with a session, BuildKit's progress as its answer [ENG-39]."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterable, Mapping
from functools import partial

from aiohttp import web

from pybuild.buildkit.pb import control as pb
from pybuild.containers.names import new_id
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.rest.buildparameters import (
    check_remote,
    map_of,
    names_of,
    step_settings,
    tags_of,
)
from pybuild.daemon.rest.exchange import ApiExchange, nothing
from pybuild.daemon.rest.progresslines import ProgressLines, stream_work
from pybuild.daemon.rest.query import Query, read_value
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.upgrades import client_of_api, served_builds
from pybuild.daemon.session.upload import HOST
from pybuild.model.jsontext import as_list, as_object
from pybuild.model.stepoptions import attributes_of_settings
from pybuild.model.text import boolean
from pybuild.net.grpc.status import RpcError

FRONTEND = "dockerfile.v0"
_OF_SESSION = "client-session"
_OF_BODY = "upload-request"
_UPLOAD = f"{_OF_BODY}:"
_INLINE = "BUILDKIT_INLINE_CACHE"
_IMAGE_KINDS = ("moby", "image")
_FACTS = ("containerimage.config.digest", "containerimage.digest")


def solve_request(query: Query, ref: str) -> pb.SolveRequest:
    """Return the request to BuildKit's service that a query stands for.

    Raises:
        ApiRefusal, UserError: there can be none.
    """
    session, kind, attrs = query.text("session"), *_exporter(query)
    if not session:
        raise ApiRefusal(400, "a build by BuildKit needs a session")
    tags = tags_of(query)
    if tags and kind in _IMAGE_KINDS:
        attrs["name"] = ",".join(str(tag) for tag in tags)
    args = map_of(query, "buildargs")
    exports = [pb.CacheOptionsEntry(Type="inline")] if boolean(args.get(_INLINE, "")) else []
    return pb.SolveRequest(
        Ref=ref,
        Session=session,
        Frontend=FRONTEND,
        FrontendAttrs=_frontend_attrs(query, ref, args),
        Exporters=[pb.Exporter(Type=kind, Attrs=attrs)] if kind else [],
        Cache=pb.CacheOptions(Exports=exports),
    )


def _exporter(query: Query) -> tuple[str, dict[str, str]]:
    """Return the one exporter, and its attributes; none that makes nothing: steps run, and are kept."""
    text = query.text("outputs")
    outputs = [as_object(one) for one in as_list(read_value(text))] if text else []
    if len(outputs) > 1:
        raise ApiRefusal(400, "multiple outputs not supported")
    if not outputs:
        return "moby", {}
    kind = str(outputs[0].get("Type") or "")
    attrs = {name: str(value) for name, value in as_object(outputs[0].get("Attrs")).items()}
    return ("" if kind == "cacheonly" else kind), attrs


def _frontend_attrs(query: Query, ref: str, args: Mapping[str, str]) -> dict[str, str]:
    attrs = attributes_of_settings(step_settings(query))
    remote, platform = query.text("remote"), query.platform()
    if remote in ("", _OF_BODY):
        attrs["context"] = f"http://{HOST}/{ref}"
    elif remote != _OF_SESSION:
        check_remote(remote)
        attrs["context"] = remote
    if query.text("dockerfile"):
        attrs["filename"] = query.text("dockerfile")
    if query.text("target"):
        attrs["target"] = query.text("target")
    if platform is not None:
        attrs["platform"] = str(platform)
    if query.flag("nocache"):
        attrs["no-cache"] = ""
    if names := names_of(query, "cachefrom"):
        attrs["cache-from"] = ",".join(names)
    attrs["image-resolve-mode"] = "pull" if query.flag("pull") else "local"
    attrs |= {f"build-arg:{name}": value for name, value in args.items()}
    attrs |= {f"label:{name}": value for name, value in map_of(query, "labels").items()}
    return attrs


async def build_in_session(exchange: ApiExchange) -> web.StreamResponse:
    """Build what the client's session has; the answer is BuildKit's progress, and the image's id."""
    server, ref = (await served_builds(exchange)).server, new_id()
    if exchange.query.text("buildid").startswith(_UPLOAD):
        await exchange.host.bodies.lend(exchange.query.text("buildid"), exchange.request)
        return nothing(200)
    request = solve_request(exchange.query, ref)
    name = exchange.query.text("buildid")
    running = exchange.host.running_builds
    try:
        return await stream_work(exchange, partial(_work, exchange, server, request, name))
    finally:
        running.pop(name, None)


async def _work(
    exchange: ApiExchange,
    server: BuildServer,
    request: pb.SolveRequest,
    name: str,
    lines: ProgressLines,
) -> None:
    tenant = server.tenant(client_of_api().owner)
    if (body := _body(exchange)) is not None:
        session = await tenant.sessions.get(request.Session)
        session.uploads[request.Ref] = body
    solving = asyncio.ensure_future(server.solve(request, tenant))
    if name:
        exchange.host.running_builds[name] = solving
    has_begun = asyncio.Event()

    async def follow() -> None:
        async with tenant.journal(request.Ref) as journal:
            has_begun.set()
            async for message in journal.follow():
                _tell(lines, "moby.buildkit.trace", base64.b64encode(message).decode())
                await lines.room()

    following = asyncio.ensure_future(follow())
    try:
        await asyncio.wait([solving])
        if has_begun.is_set() or not (solving.cancelled() or solving.exception()):
            await following
        if solving.cancelled():
            raise ApiRefusal(400, "the build was cancelled")
        facts = solving.result().ExporterResponse
    except RpcError as error:
        raise ApiRefusal(400, error.message) from error
    finally:
        for task in (following, solving):
            task.cancel()
        await asyncio.gather(following, solving, return_exceptions=True)
    image = next((facts[fact] for fact in _FACTS if fact in facts), "")
    if image and all(one.Type in _IMAGE_KINDS for one in request.Exporters):
        _tell(lines, "moby.image.id", {"ID": image})
        if exchange.query.flag("q"):
            lines.say(stream=f"{image}\n")


def _body(exchange: ApiExchange) -> AsyncIterable[bytes] | None:
    """Return the archive that is the context: this request's body, or another's; None: it is the session's, or elsewhere."""
    remote = exchange.query.text("remote")
    if remote == _OF_BODY:
        return exchange.host.bodies.borrow(_UPLOAD + exchange.query.text("buildid"))
    return None if remote else exchange.pieces()


def _tell(lines: ProgressLines, id: str, aux: object) -> None:
    lines.say(id=id, aux=aux)
