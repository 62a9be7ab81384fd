"""Named inputs of results, kept so that a miss can be explained; read for nothing else.

A row outlives its result: what once was here and was freed is another answer than what never was.
Lists of files lie in rows of their own, by the content's digest, so that all results of equal content
share one. `trim` bounds the whole.
"""

from __future__ import annotations

import base64
import zlib

from pybuild.cache.records.database import RecordTooLarge
from pybuild.model.jsontext import as_list, as_number, as_object
from pybuild.model.named import KnownInputs, Listing, NamedInputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.cache.records.database import Records
    from pybuild.model.clock import Clock
    from pybuild.model.digest import Digest

INPUTS = "inputs"
LISTING = "listing"
MAX_ROWS = 4000
MAX_LISTINGS = 1000
# So much, less than half of it once compressed, fits a row of records even in base 64.
_CHUNK_BYTES = 256 << 10
_CHUNK_ENTRIES = 3000
_MAX_INFLATED = 8 * _CHUNK_BYTES


class Inputs:
    """The named inputs of one store's results."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def put(self, key: Digest, name: str, made_of: NamedInputs) -> None:
        """Keep what a key was made of; when that was first so stays as it is.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        for digest, listing in made_of.listings.items():
            self._put_listing(digest, listing)
        first = as_number((self._records.get(INPUTS, key) or {}).get("first"), self._clock.now())
        value = {"name": name, "parts": made_of.parts, "first": first, "at": self._clock.now()}
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
        """Return the files of a content; None if they are not known.

        Raises:
            EnvironmentFault: the records cannot be read.
        """
        head = self._records.get(LISTING, f"{digest}/0")
        if head is None:
            return None
        try:
            entries = _inflated(head)
            for number in range(1, int(as_number(head.get("of"), 1))):
                entries += _inflated(self._records.get(LISTING, f"{digest}/{number}"))
        except ValueError:
            return None
        return tuple(entries)

    def _put_listing(self, digest: str, listing: Listing) -> None:
        if self._records.get(LISTING, f"{digest}/0") is not None:
            return
        pieces = list(_pieces(listing))
        try:
            # The first one comes last: where it is, all are.
            for number in reversed(range(len(pieces))):
                value = {"of": len(pieces), "columns": pieces[number], "at": self._clock.now()}
                self._records.put(LISTING, f"{digest}/{number}", value)
        except RecordTooLarge:
            pass  # names that do not compress; a difference is then shown without files

    def trim(self) -> None:
        """Forget the oldest beyond the bounds, and lists that nothing refers to.

        Raises:
            EnvironmentFault: the records cannot be changed.
        """
        lists = {key.partition("/")[0] for key in self._records.keys(LISTING)}
        if len(self._records.keys(INPUTS)) <= MAX_ROWS and len(lists) <= MAX_LISTINGS:
            return
        rows = [(as_number(v.get("at")), key, v) for key, v in self._records.items(INPUTS)]
        rows.sort(key=lambda row: row[:2])
        gone = {key for _, key, _ in rows[: max(0, len(rows) - MAX_ROWS * 9 // 10)]}
        for key in gone:
            self._records.delete(INPUTS, key)
        used: dict[str, None] = {}
        for _, key, value in reversed(rows):
            if key not in gone:
                used |= dict.fromkeys(_contents(value))
        kept = set(list(used)[:MAX_LISTINGS])
        for key in self._records.keys(LISTING):
            if key.partition("/")[0] not in kept:
                self._records.delete(LISTING, key)


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


def _pieces(listing: Listing) -> Iterator[str]:
    """Yield *listing* in pieces that fit rows."""
    slices = [
        listing[at : at + _CHUNK_ENTRIES] for at in range(0, len(listing) or 1, _CHUNK_ENTRIES)
    ]
    while slices:
        piece = slices.pop(0)
        data = _columns(piece)
        if len(data) > _CHUNK_BYTES and len(piece) > 1:
            half = len(piece) // 2
            slices[:0] = [piece[:half], piece[half:]]
            continue
        # Level 1: a row is read only when something is explained, and written by each step that runs.
        yield base64.b64encode(zlib.compress(data, 1)).decode()


def _columns(piece: Listing) -> bytes:
    """Return all paths, then all looks: neither has a NUL."""
    columns = [path for path, _ in piece] + [look for _, look in piece]
    return "\0".join(columns).encode("utf-8", "surrogateescape")


def _inflated(row: object) -> list[tuple[str, str]]:
    """Read a piece.

    Raises:
        ValueError: it is damaged.
    """
    try:
        data = base64.b64decode(str(as_object(row).get("columns")), validate=True)
        inflater = zlib.decompressobj()
        text = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflater.eof:
        raise ValueError("cut short, or too long to be ours")
    columns = text.decode("utf-8", "surrogateescape").split("\0") if text else []
    half = len(columns) // 2
    return list(zip(columns[:half], columns[half:], strict=True))
