"""Rights that steps have only when the request grants them, checked before any runs [SEC-5]."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import ExecOp, NetworkMode, SecurityMode, Vertex, walk


def check_entitlements(
    result: Vertex, allowed: frozenset[str], devices: Sequence[str] = ()
) -> None:
    """Look at every step that *result* needs.

    Args:
        devices: directories of files about devices; see `executor.devices`.

    Raises:
        UserError: one wants more than is allowed, or a device that is not there.
    """
    for vertex in walk(result):
        if not isinstance(vertex.op, ExecOp):
            continue
        uses = {
            "network.host": vertex.op.settings.network is NetworkMode.HOST,
            "security.insecure": vertex.op.security is SecurityMode.INSECURE,
        }
        for name, is_used in uses.items():
            if is_used and name not in allowed:
                raise UserError(
                    f"entitlement {name} is not allowed",
                    spans=vertex.meta.spans,
                    hints=[f"grant it with --allow {name}"],
                )
        if not vertex.op.devices:
            continue
        from pybuild.executor.devices import find_devices

        try:
            find_devices(vertex.op.devices, allowed, devices)
        except PybuildError as error:
            raise error.with_spans(vertex.meta.spans) from error.__cause__
