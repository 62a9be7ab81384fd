"""The capabilities of this server, in the names that clients ask for [6, 9]."""

from __future__ import annotations

FRONTEND_CAPS = (
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "reference.attestations",
    "frontend.inputs",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.evaluate.progress",
    "gateway.warnings",
    "frontend.caps",
    "source.metaresolver",
)
"""Of the gateway service."""

SERVER_CAPS = (
    "exporter.image.attestations",
    "exporter.multiple",
    "gc.freespacefilter",
    "history.filter",
    "source.policy.session",
)
"""Of the server beyond definitions, told together with theirs; the first makes clients ask for
provenance."""
