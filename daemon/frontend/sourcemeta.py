"""Facts of sources for a client's frontend, before it uses them: images, git, http [6, 9]."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.ops import Platform as PlatformMessage
from pybuild.buildkit.pb.ops import SourceOp
from pybuild.buildkit.pb.times import timestamp
from pybuild.buildkit.policies import read_policies, ruled_source
from pybuild.builds.lookups import note_image
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.session.upload import HOST
from pybuild.engine.host import native_platform
from pybuild.engine.progress import InternalStep, internal_step
from pybuild.executor.sources.http import name_of
from pybuild.exporter.attest.chain import attestation_chain
from pybuild.frontend.giturl import CONTEXT_FILE, file_name, parse_git_url
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.image.config import encode
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import HttpSource
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

_IMAGE, _LAYOUT = "docker-image://", "oci-layout://"


async def resolve_image_config(
    scope: Scope, request: pb.ResolveImageConfigRequest
) -> pb.ResolveImageConfigResponse:
    """Return an image's digest and config.

    Raises:
        UserError: no such image.
    """
    platform = request.Platform if request.HasField("Platform") else None
    source = SourceOp(identifier=_IMAGE + request.Ref)
    rules = read_policies(request.SourcePolicies, scope.policies)
    await scope.decided(partial(ruled_source, source, _platform(platform), rules))
    if not source.identifier.startswith(_IMAGE):
        raise UserError(f"source policy: image {request.Ref} is to be {source.identifier}")
    name = source.identifier.removeprefix(_IMAGE)
    digest, config = await _image(scope, name, platform, request.ResolveMode, request.LogName)
    return pb.ResolveImageConfigResponse(Digest=digest, Config=config, Ref=name)


async def resolve_source_meta(
    scope: Scope, request: pb.ResolveSourceMetaRequest
) -> pb.ResolveSourceMetaResponse:
    """Return the facts of a source, or of the one that policies put in its place.

    Raises:
        UserError: it is of a kind without such facts, or not there.
    """
    rules = read_policies(request.SourcePolicies, scope.policies)
    platform = _platform(request.Platform if request.HasField("Platform") else None)
    await scope.decided(partial(ruled_source, request.Source, platform, rules))
    return await source_meta(scope, request)


async def source_meta(
    scope: Scope, request: pb.ResolveSourceMetaRequest
) -> pb.ResolveSourceMetaResponse:
    """Return the facts of a source without fetching its tree, whatever policies say.

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
        _show_image(response, request, digest, config)
        wants = request.Image.ResolveAttestations
        if request.Image.AttestationChain or wants:
            chain = await attestation_chain(
                scope.engine.client(), _reference(name), _platform(platform), frozenset(wants)
            )
            if chain is not None:
                response.Image.AttestationChain.CopyFrom(chain)
        return response
    if identifier.startswith(_LAYOUT):
        place, _, text = identifier.removeprefix(_LAYOUT).partition("@")
        store = request.Source.attrs.get("oci.store") or place.partition(":")[0]
        of_platform = _platform(request.Platform if request.HasField("Platform") else None)
        async with _step(scope, request, f"[internal] load metadata for {identifier}"):
            image = await scope.layouts.image(
                store, Digest.parse(text) if text else None, of_platform
            )
        with suppress(ValueError):  # a name that is no image's has no place in provenance
            called = Reference.parse(identifier.removeprefix(_LAYOUT))
            note_image(ImageRequest(called, of_platform, layout=store), image.digest)
        _show_image(response, request, image.digest, encode(dict(image.config)))
        return response
    if identifier.startswith("local://"):
        return response  # nothing is known before it is sent
    if identifier.startswith(("http://", "https://")):
        parts = urlsplit(identifier)
        op = HttpSource(url=identifier, filename=file_name(identifier), server_names=True)
        if parts.netloc == HOST:
            op = await scope.adopt_upload(parts.path.strip("/"), CONTEXT_FILE)
        async with _step(scope, request, f"[internal] load {identifier}"):
            file = await scope.sources.http.file(op)
        response.HTTP.Checksum = f"sha256:{file.sha256}"
        response.HTTP.Filename = name_of(op, file.name)
        with suppress(ValueError, TypeError, OverflowError):
            modified = parsedate_to_datetime(file.last_modified).timestamp()
            response.HTTP.LastModified.CopyFrom(timestamp(modified))
        return response
    if identifier.startswith("git://"):
        full = request.Source.attrs.get("git.fullurl") or identifier
        fragment = identifier.partition("#")[2]
        git = parse_git_url(f"{full}#{fragment}" if fragment else full, is_context=True)
        if git is None:
            raise UserError(f"invalid git source {identifier}")
        resolved = await scope.sources.git.resolve(git.source())
        response.Git.Checksum = resolved.object
        response.Git.Ref = resolved.ref
        if resolved.commit != resolved.object:
            response.Git.CommitChecksum = resolved.commit
        if request.Git.ReturnObject:
            response.Git.CommitObject, response.Git.TagObject = await scope.sources.git.objects(
                git.source()
            )
        return response
    raise UserError(f"cannot resolve metadata of {identifier.partition('://')[0]} sources")


def _show_image(
    response: pb.ResolveSourceMetaResponse,
    request: pb.ResolveSourceMetaRequest,
    digest: str,
    config: bytes,
) -> None:
    response.Image.Digest = digest
    if not request.Image.NoConfig:
        response.Image.Config = config


def _step(
    scope: Scope, request: pb.ResolveSourceMetaRequest, title: str
) -> AbstractAsyncContextManager[InternalStep]:
    return internal_step(request.LogName or title, scope.emit, scope.engine.clock)


def _platform(given: PlatformMessage | None) -> Platform:
    if given is None or not given.OS:
        return native_platform()
    return Platform.make(given.OS, given.Architecture, given.Variant, given.OSVersion)


def _reference(name: str) -> Reference:
    try:
        return Reference.parse(name)
    except ValueError as error:
        raise UserError(f"failed to parse reference {name}: {error}") from error


async def _image(
    scope: Scope, name: str, platform: PlatformMessage | None, mode: str, log_name: str
) -> tuple[str, bytes]:
    reference = _reference(name)
    of_platform = _platform(platform)
    title = log_name or f"[internal] load metadata for {reference}"
    request = ImageRequest(reference, of_platform)
    async with internal_step(title, scope.emit, scope.engine.clock):
        image = await scope.engine.images.resolve(request, pull=mode != "local")
    note_image(request, image.digest)
    return image.digest, encode(dict(image.config))
