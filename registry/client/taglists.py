"""Lists of referrers that clients keep under tags, at registries that keep none [end-12a]."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.registry.client.referrers import Referrer, list_of, read_list, subject_of, tag_of


class TagLists:
    """One list a subject. Two that write one at once can lose an entry: there is no condition for it."""

    def __init__(
        self,
        read: Callable[[Reference], Awaitable[bytes | None]],
        write: Callable[[Reference, bytes], Awaitable[None]],
    ) -> None:
        """*read* returns the index that a tag names, None if there is none; *write* puts one there."""
        self._read = read
        self._write = write

    async def of(self, reference: Reference, subject: Digest) -> list[Referrer]:
        """Return the list of *subject* in the repository of *reference*."""
        tagged = _tagged(reference, subject)
        data = await self._read(tagged)
        return [] if data is None else read_list(f"list referrers of {tagged}", data)

    async def add(self, reference: Reference, media_type: str, data: bytes) -> None:
        """Note the subject of the manifest *data*, if it has one."""
        referred = subject_of(data, media_type)
        if referred is None:
            return
        subject, entry = referred
        known = await self.of(reference, subject)
        if entry.descriptor.digest not in {other.descriptor.digest for other in known}:
            await self._put(reference, subject, [*known, entry])

    async def drop(self, reference: Reference, media_type: str, data: bytes) -> None:
        """Forget the manifest *data*, which is gone, if a list has it."""
        referred = subject_of(data, media_type)
        if referred is None:
            return
        subject, gone = referred
        known = await self.of(reference, subject)
        kept = [entry for entry in known if entry.descriptor.digest != gone.descriptor.digest]
        if len(kept) < len(known):
            await self._put(reference, subject, kept)

    async def _put(
        self, reference: Reference, subject: Digest, entries: Sequence[Referrer]
    ) -> None:
        await self._write(_tagged(reference, subject), list_of(entries))


def _tagged(reference: Reference, subject: Digest) -> Reference:
    return Reference(reference.host, reference.path, tag=tag_of(subject))
