"""What this server can do, in the names that clients ask for [6, 9]."""

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
