"""EXPOSE [LNT-20, LNT-21]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.lowering.ports import PortSpec
from pybuild.frontend.syntax import ast

EXPOSE_PROTO_CASING = Rule(
    name="ExposeProtoCasing",
    description="Protocols are written in lower case",
    message="Defined protocol '{0}' in EXPOSE instruction should be lowercase".format,
)
EXPOSE_INVALID_FORMAT = Rule(
    name="ExposeInvalidFormat",
    description="An image cannot say which address or port of a host it will be published at",
    message=(
        "EXPOSE instruction should not define an IP address or host-port mapping, found '{0}'"
    ).format,
)


def check_port(at: ast.Expose, text: str, spec: PortSpec, report: Report) -> None:
    """Look at one port, as written and as read."""
    if spec.protocol != spec.protocol.lower():
        report.add(EXPOSE_PROTO_CASING, text, at=at)
    if spec.has_host_part:
        report.add(EXPOSE_INVALID_FORMAT, text, at=at)
