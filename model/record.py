"""Cache records: a stored result under its cache key [KEY]."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored result under its cache key.

    Attributes:
        seconds: the time that it took to make.
        created: when it was made, seconds since the epoch.
        name: the vertex's name in progress, such as ``[build 3/7] RUN make``.
    """

    key: Digest
    snapshot: Snapshot
    seconds: float = 0.0
    created: float = 0.0
    name: str = ""
