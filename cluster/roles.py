"""The roles of a cluster's machines, as the units of their certificates' subjects."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The roles of a cluster's machines."""

    COORDINATOR = "coordinator"
    SCHEDULER = "scheduler"
    """It has claims alone: workers give it nothing."""
    WORKER = "worker"


LENDERS = (Role.COORDINATOR, Role.WORKER)
"""Those who get layers of each other."""
