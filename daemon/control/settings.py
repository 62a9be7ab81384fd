"""Settings of the build server beyond those of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.engine.settings import Share
from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What the configuration of the server says beyond that of the engine.

    Attributes:
        entitlements: what clients may grant their builds.
        machine: what provenance says of where builds run, besides what is always said.
        share: what clients share, but for those that *clients* names.
    """

    entitlements: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    machine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    share: Share = Share.OWN
    clients: Mapping[str, Share] = field(default_factory=dict[str, Share])
