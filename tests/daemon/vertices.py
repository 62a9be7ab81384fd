"""Two vertices, by their digests."""

from __future__ import annotations

from pybuild.model.digest import Digest

V, W = Digest.of(b"v"), Digest.of(b"w")
