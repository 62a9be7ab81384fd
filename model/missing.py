"""The error of a blob that is not there: apart from `errors`, so that opening a store stays light."""

from __future__ import annotations


class BlobMissing(KeyError):
    """The store does not hold the blob, or no longer: its bytes were damaged."""

    def __init__(self, digest: str, reason: str = "not in the store") -> None:
        self.digest = digest
        self.reason = reason

    def __str__(self) -> str:
        return f"blob {self.digest}: {self.reason}"
