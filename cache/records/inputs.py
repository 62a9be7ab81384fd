"""Named inputs of results, kept so that a miss can be explained; read for nothing else.

A row outlives its result: what once was here and was freed is another answer than what never was.
Lists of files lie apart (`listings`), so that all results of equal content share one. `trim` bounds the rows.
"""

from __future__ import annotations

from pybuild.cache.records.database import RecordTooLarge
from pybuild.model.jsontext import as_list, as_number, as_object
from pybuild.model.named import KnownInputs, Listing, NamedInputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.cache.store import Store
    from pybuild.model.digest import Digest

INPUTS = "inputs"
MAX_ROWS = 4000


class Inputs:
    """The named inputs of one store's results."""

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._listings = store.listings
        self._clock = store.clock

    def put(self, key: Digest, name: str, inputs: NamedInputs) -> None:
        """Keep what a key was made of; when that was first so stays as it is.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        for digest, listing in inputs.listings.items():
            self._listings.add(digest, listing)
        first = as_number((self._records.get(INPUTS, key) or {}).get("first"), self._clock.now())
        value = {"name": name, "parts": inputs.parts, "first": first, "at": self._clock.now()}
        try:
            self._records.put(INPUTS, key, value)
        except RecordTooLarge:
            pass  # a command of hundreds of kilobytes: its misses are explained without a difference

    def get(self, key: str) -> KnownInputs | None:
        """Return the named inputs of *key*, None if there are none.

        Raises:
            EnvironmentFault: the records cannot be read.
        """
        value = self._records.get(INPUTS, key)
        return None if value is None else read_known(key, value)

    def named(self, key: str) -> NamedInputs | None:
        """Return it with the files of its contents, as far as they are known.

        Raises:
            EnvironmentFault: the records cannot be read.
        """
        value = self._records.get(INPUTS, key)
        if value is None:
            return None
        listings = {digest: self.listing(digest) for digest in _contents(value)}
        return NamedInputs(
            as_object(value.get("parts")),
            {digest: listing for digest, listing in listings.items() if listing is not None},
        )

    def all(self) -> Iterator[KnownInputs]:
        """Yield what is known of all results there are or were.

        Raises:
            EnvironmentFault: the records cannot be read.
        """
        for key, value in self._records.items(INPUTS):
            yield read_known(key, value)

    def listing(self, digest: str) -> Listing | None:
        """Return the files of a content; None if they are not known."""
        return self._listings.get(digest)

    def trim(self) -> None:
        """Forget the oldest beyond the bound.

        Raises:
            EnvironmentFault: the records cannot be changed.
        """
        if len(self._records.keys(INPUTS)) <= MAX_ROWS:
            return
        rows = sorted((as_number(v.get("at")), key) for key, v in self._records.items(INPUTS))
        for _, key in rows[: max(0, len(rows) - MAX_ROWS * 9 // 10)]:
            self._records.delete(INPUTS, key)


def read_known(key: str, value: object) -> KnownInputs:
    """Read one row; what is not as it should be counts as not there."""
    row = as_object(value)
    return KnownInputs(
        key=key,
        name=str(row.get("name") or ""),
        parts=as_object(row.get("parts")),
        first=as_number(row.get("first")),
    )


def _contents(value: object) -> Iterator[str]:
    for source in as_list(as_object(as_object(value).get("parts")).get("inputs")):
        for digest in as_list(as_object(source).get("content")):
            yield str(digest)
