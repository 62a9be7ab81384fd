"""Settings of the build server beyond those of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.engine.settings import Share
from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The settings of the server beyond those of the engine.

    Attributes:
        entitlements: those that clients may grant their builds.
        machine: further entries about the machine in provenance.
        share: of all clients but those that *clients* names.
        proxy_network: steps of all builds reach nothing but a proxy of ours.
    """

    entitlements: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    machine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    proxy_network: bool = False
    share: Share = Share.OWN
    clients: Mapping[str, Share] = field(default_factory=dict[str, Share])
