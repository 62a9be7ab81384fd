"""Exporters that a client chooses when it knows the results, and is told the outcome of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb.exporter import (
    ExporterRequest,
    FinalizeExportRequest,
    FindExportersRequest,
    FindExportersResponse,
)
from pybuild.buildkit.session.failures import failed
from pybuild.daemon.session.sessions import Session
from pybuild.model.errors import UserError
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/moby.exporter.v1.Exporter/"
_FIND, _FINALIZE = _SERVICE + "FindExporters", _SERVICE + "FinalizeExport"
_TIMEOUT_S = 60.0
_MOST = 64
_MISSING = (Code.UNAVAILABLE, Code.UNIMPLEMENTED)


async def find_exporters(
    session: Session, metadata: Mapping[str, bytes], refs: Sequence[str]
) -> list[ExporterRequest]:
    """Return the exporters that the client wants for the trees *refs*; none where it does not say.

    Raises:
        UserError: it fails, or wants too many. Cancelled: it has gone.
    """
    if not session.offers(_FIND):
        return []
    request = FindExportersRequest(metadata=metadata, refs=refs).SerializeToString()
    try:
        data = await session.unary(_FIND, request, timeout=_TIMEOUT_S)
        exporters = list(FindExportersResponse.FromString(data).exporters)
    except RpcError as error:
        if error.code in _MISSING:
            return []
        raise failed("find exporters", error) from error
    except DecodeError as error:
        raise UserError("find exporters: the client's answer cannot be read") from error
    if len(exporters) > _MOST:
        raise UserError(
            f"the client wants {len(exporters)} exporters, at most {_MOST} are possible"
        )
    return exporters


async def finalize_export(session: Session, facts: Mapping[str, str]) -> None:
    """Tell the client that its exporters are done; *facts* are the answer that the build will give.

    Raises:
        UserError: it fails. Cancelled: it has gone.
    """
    if not session.offers(_FINALIZE):
        return
    request = FinalizeExportRequest(exporter_response=facts).SerializeToString()
    try:
        await session.unary(_FINALIZE, request, timeout=_TIMEOUT_S)
    except RpcError as error:
        if error.code not in _MISSING:
            raise failed("finalize export", error) from error
