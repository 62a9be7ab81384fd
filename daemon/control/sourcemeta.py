"""Tells a client's frontend what sources are before it uses them: images, git, http [6, 9]."""

from __future__ import annotations

from pybuild.attest.sources import Image
from pybuild.daemon.control.looks import note_image
from pybuild.daemon.control.scope import Scope
from pybuild.daemon.pb import gateway as pb
from pybuild.daemon.pb.ops import Platform as PlatformMessage
from pybuild.frontend.giturl import parse_git_url
from pybuild.frontend.lowering import ImageRequest
from pybuild.host import native_platform
from pybuild.image.config import encode
from pybuild.internal import internal_step
from pybuild.model.errors import UserError
from pybuild.model.ops import HttpSource
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

_IMAGE = "docker-image://"


async def resolve_image_config(
    scope: Scope, request: pb.ResolveImageConfigRequest
) -> pb.ResolveImageConfigResponse:
    """Return an image's digest and config.

    Raises:
        UserError: no such image.
    """
    platform = request.Platform if request.HasField("Platform") else None
    digest, config = await _image(
        scope, request.Ref, platform, request.ResolveMode, request.LogName
    )
    return pb.ResolveImageConfigResponse(Digest=digest, Config=config, Ref=request.Ref)


async def resolve_source_meta(
    scope: Scope, request: pb.ResolveSourceMetaRequest
) -> pb.ResolveSourceMetaResponse:
    """Return what is known of a source without fetching its tree.

    Raises:
        UserError: it is of a kind without such facts, or not there.
    """
    response = pb.ResolveSourceMetaResponse()
    response.Source.CopyFrom(request.Source)
    identifier = request.Source.identifier
    if identifier.startswith(_IMAGE):
        platform = request.Platform if request.HasField("Platform") else None
        name = identifier.removeprefix(_IMAGE)
        digest, config = await _image(scope, name, platform, request.ResolveMode, request.LogName)
        response.Image.Digest, response.Image.Config = digest, config
        return response
    if identifier.startswith(("http://", "https://")):
        op = HttpSource(url=identifier)
        async with internal_step(
            request.LogName or f"[internal] load {identifier}", scope.emit, scope.engine.clock
        ):
            file = await scope.sources.http.file(op)
        response.HTTP.Checksum = f"sha256:{file.sha256}"
        response.HTTP.Filename = identifier.partition("?")[0].rpartition("/")[2]
        return response
    if identifier.startswith("git://"):
        full = request.Source.attrs.get("git.fullurl") or identifier
        fragment = identifier.partition("#")[2]
        git = parse_git_url(f"{full}#{fragment}" if fragment else full, is_context=True)
        if git is None:
            raise UserError(f"invalid git source {identifier}")
        found = await scope.sources.git.resolve(git.source())
        response.Git.Checksum = found.object
        response.Git.Ref = found.ref
        if found.commit != found.object:
            response.Git.CommitChecksum = found.commit
        return response
    raise UserError(f"cannot resolve metadata of {identifier.partition('://')[0]} sources")


async def _image(
    scope: Scope, name: str, platform: PlatformMessage | None, mode: str, log_name: str
) -> tuple[str, bytes]:
    try:
        reference = Reference.parse(name)
    except ValueError as error:
        raise UserError(f"failed to parse reference {name}: {error}") from error
    wanted = native_platform()
    if platform is not None and platform.OS:
        wanted = Platform.make(platform.OS, platform.Architecture, platform.Variant)
    title = log_name or f"[internal] load metadata for {reference}"
    async with internal_step(title, scope.emit, scope.engine.clock):
        found = await scope.engine.images.resolve(
            ImageRequest(reference, wanted), pull=mode not in ("local",)
        )
    note_image(Image(reference, wanted, found.digest))
    return found.digest, encode(dict(found.config))
