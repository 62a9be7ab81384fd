"""The roles of a cluster's machines, as the units of their certificates' subjects."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """The roles of a cluster's machines."""

    COORDINATOR = "coordinator"
    SCHEDULER = "scheduler"
    """It has claims alone: workers give it nothing."""
    WORKER = "worker"


LENDERS = (Role.COORDINATOR, Role.WORKER)
"""Those who get layers of each other."""


def units_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the units of a certificate's subject, as `ssl` shows it."""
    subject = (certificate or {}).get("subject", ())
    return frozenset(
        value for pairs in subject for name, value in pairs if name == "organizationalUnitName"
    )
