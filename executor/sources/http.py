"""Files by http(s) as sources: what a URL holds now, and its file as a snapshot [ADD-4..6, KEY-4]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.sources.download import Downloader, Fetched, OnProgress, Validators
from pybuild.executor.sources.waiting import Once
from pybuild.executor.steps.execop import Secrets, header_text, looked_up
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import HttpSource
from pybuild.model.snapshot import Snapshot
from pybuild.net.http1.faults import shown_url

if TYPE_CHECKING:
    from pybuild.executor.files import jobs
else:
    jobs = WorkerModule("pybuild.executor.files.jobs")

_KIND = "http"
_UNNAMED = "__unnamed__"


@dataclass(frozen=True, slots=True)
class HttpFile:
    """A fetched file.

    Attributes:
        sha256: of its bytes, hex.
        last_modified: as the server wrote it, or "".
        name: the name that the server gives it, or "".
    """

    sha256: str
    last_modified: str
    delta: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class HttpRecord:
    """The file of a URL, and by what its server tells whether that is still the same."""

    file: HttpFile
    validators: Validators

    def to_json(self) -> dict[str, str]:
        return {
            "delta": self.file.delta,
            "hex": self.file.sha256,
            "etag": self.validators.etag,
            "last_modified": self.file.last_modified,
            "name": self.file.name,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HttpRecord | None:
        """Return the record that the store has; None if it names no delta."""
        texts = [value.get(name) for name in ("delta", "hex", "etag", "last_modified", "name")]
        delta, sha256, etag, last_modified, name = (t if isinstance(t, str) else "" for t in texts)
        known = Validators(etag=etag, last_modified=last_modified)
        return cls(HttpFile(sha256, last_modified, delta, name), known) if delta else None


class HttpFiles:
    """The http sources of one build; a URL holds the same bytes throughout it."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        lease: Lease,
        *,
        secrets: Secrets,
        downloader: Downloader,
        proves: bool = False,
    ) -> None:
        self._store = store
        self._workers = workers
        self._lease = lease
        self._secrets = secrets
        self._downloader = downloader
        self._proves = proves
        self._files = Once[HttpSource, HttpFile]()
        self._first: dict[HttpSource, HttpSource] = {}  # by what is sent to ask for it

    async def identify(self, op: HttpSource) -> Digest:
        """Return a digest of the bytes that the URL holds now, and of when they changed [KEY-4].

        Raises:
            UserError: no such file, or another checksum. EnvironmentFault: unreachable.
        """
        if op.checksum is not None:
            return op.checksum
        file = await self.file(op)
        identity = {"http": file.sha256, "last_modified": file.last_modified}
        if op.server_names and file.name:
            identity["name"] = file.name
        return Digest.of_json(identity)

    async def snapshot(self, op: HttpSource, on_progress: OnProgress | None = None) -> Snapshot:
        """Return a tree that holds the file and nothing else."""
        return Snapshot(((await self.file(op, on_progress)).delta,))

    async def file(self, op: HttpSource, on_progress: OnProgress | None = None) -> HttpFile:
        """Return the file, fetched at most once; not at all if its checksum is known here."""
        first = self._first.setdefault(_question(op), op)
        if first == op or op.checksum is not None:
            return await self._files.ask(op, lambda: self._file(op, on_progress))
        return await self._files.ask(op, lambda: self._same(op, first, on_progress))

    async def _same(
        self, op: HttpSource, first: HttpSource, on_progress: OnProgress | None
    ) -> HttpFile:
        """Return the bytes that *first* has of the same URL, with the look that *op* gives them."""
        held = await self.file(first, on_progress)
        store = self._store
        there = os.path.join(store.deltas.path(held.delta), name_of(first, held.name))
        active = await asyncio.to_thread(store.deltas.begin)
        try:
            path = os.path.join(active.fs, name_of(op, held.name))
            await self._workers.call(job(jobs.same_file, there, path))
            await asyncio.to_thread(_finish, path, op.mode, held.last_modified)
            if op.uid or op.gid:
                await self._workers.call(job(jobs.own, path, op.uid, op.gid, op.mode))
            meta = {"size": os.stat(path).st_size, "type": "source.http"}
        except BaseException:
            store.deltas.abort(active)
            raise
        delta = await asyncio.to_thread(store.deltas.commit, active, None, meta, self._lease)
        return HttpFile(held.sha256, held.last_modified, delta, held.name)

    async def changed(self, op: HttpSource) -> int | None:
        """Return when the file of *op* was last changed, in seconds, if that can be known [REP-1].

        It is what the server says, or else the newest file of the archive that it is.
        """
        file = await self.file(op)
        when = _seconds(file.last_modified)
        if when is not None:
            return int(when)
        path = os.path.join(self._store.deltas.path(file.delta), name_of(op, file.name))
        return await self._workers.call(job(jobs.newest, path))

    async def has(self, op: HttpSource) -> bool:
        """Whether the file of *op*, which has a checksum, is here already."""
        return await asyncio.to_thread(self._known, _pinned(op)) is not None

    async def adopt(self, path: str, size: int, op: HttpSource) -> None:
        """Take over a file of the store's `tmp/` as that of *op*, whose checksum it has.

        The source's URL is never asked.
        """
        store = self._store
        if not await self.has(op):
            active = await asyncio.to_thread(store.deltas.begin)
            try:
                target = os.path.join(active.fs, name_of(op))
                await asyncio.to_thread(os.rename, path, target)
                await asyncio.to_thread(_finish, target, op.mode, "")
                if op.uid or op.gid:
                    await self._workers.call(job(jobs.own, target, op.uid, op.gid, op.mode))
            except BaseException:
                store.deltas.abort(active)
                raise
            meta = {"size": size, "type": "source.http"}
            delta = await asyncio.to_thread(store.deltas.commit, active, None, meta, self._lease)
            known = Validators(etag="", last_modified="")
            assert op.checksum is not None
            await self._note(_pinned(op), HttpRecord(HttpFile(op.checksum.hex, "", delta), known))

    async def close(self) -> None:
        """End what is still under way, such as downloads that nobody waits for any more."""
        await self._files.stop()

    async def _file(self, op: HttpSource, on_progress: OnProgress | None) -> HttpFile:
        name = name_of(op)
        look = _look(op)
        # What is kept of a URL must not tell its credentials.
        where = Digest.of_json({"url": op.url, **look})
        if op.checksum is not None and not (self._proves and _is_remote(op)):
            pinned = _pinned(op)
            held = await asyncio.to_thread(self._known, pinned)
            if held is not None:
                return held.file
            record = await self._fetch(op, name, None, on_progress)
            await self._note(pinned, record)
            return record.file
        held = await asyncio.to_thread(self._known, where)
        if held is not None and op.checksum not in (None, f"sha256:{held.file.sha256}"):
            held = None
        record = await self._fetch(op, name, held, on_progress)
        await self._note(where, record)
        return record.file

    def _known(self, key: Digest) -> HttpRecord | None:
        record = HttpRecord.from_json(self._store.records.get(_KIND, key) or {})
        if record is None:
            return None
        self._lease.add("delta", record.file.delta)
        return record if self._store.deltas.has(record.file.delta) else None

    async def _note(self, key: Digest, record: HttpRecord) -> None:
        value = {**record.to_json(), "created": self._store.clock.now()}
        await asyncio.to_thread(self._store.records.put, _KIND, key, value)

    async def _fetch(
        self,
        op: HttpSource,
        name: str,
        held: HttpRecord | None,
        on_progress: OnProgress | None,
    ) -> HttpRecord:
        known = None if held is None else held.validators
        if known is not None and not (known.etag or known.last_modified):
            known = None
        store = self._store
        authorization = await looked_up(self._secrets, partial(self._authorization, op))
        active = await asyncio.to_thread(store.deltas.begin)
        try:
            path = os.path.join(active.fs, name)
            got = await self._downloader.fetch(
                op.url,
                path,
                headers=_headers(op),
                authorization=authorization,
                known=known,
                on_progress=on_progress,
            )
            if held is not None and (not got.sha256 or _is_same(got, held.file)):
                store.deltas.abort(active)
                last_modified = held.file.last_modified
                return HttpRecord(held.file, Validators(etag=got.etag, last_modified=last_modified))
            if op.checksum is not None:
                _compare(op, path, got)
            path = await asyncio.to_thread(_renamed, path, name_of(op, got.name))
            await asyncio.to_thread(_finish, path, op.mode, got.last_modified)
            if op.uid or op.gid:
                await self._workers.call(job(jobs.own, path, op.uid, op.gid, op.mode))
        except BaseException:
            store.deltas.abort(active)
            raise
        meta = {"size": got.size, "type": "source.http"}
        delta = await asyncio.to_thread(store.deltas.commit, active, None, meta, self._lease)
        file = HttpFile(got.sha256, got.last_modified, delta, got.name)
        return HttpRecord(file, Validators(etag=got.etag, last_modified=got.last_modified))

    def _authorization(self, op: HttpSource) -> str:
        """Return the header that the build's secrets have for *op*, or the host of its URL [ADD-6]."""
        if op.auth_secret:
            read = self._secrets.get(op.auth_secret)
            if read is None:
                raise UserError(f"secret {op.auth_secret}: not found")
            return header_text(op.auth_secret, read())
        try:
            host = urlsplit(op.url).hostname or ""
        except ValueError:
            return ""
        for prefix, scheme in (("HTTP_AUTH_TOKEN_", "Bearer "), ("HTTP_AUTH_HEADER_", "")):
            read = self._secrets.get(prefix + host)
            if read is not None:
                return scheme + header_text(prefix + host, read())
        return ""


def _is_remote(op: HttpSource) -> bool:
    return op.url.startswith(("http://", "https://"))


def _is_same(got: Fetched, file: HttpFile) -> bool:
    return (got.sha256, got.last_modified, got.name) == (
        file.sha256,
        file.last_modified,
        file.name,
    )


def _compare(op: HttpSource, path: str, got: Fetched) -> None:
    """Compare the checksum that the Dockerfile states [ADD-5]."""
    expected = op.checksum
    assert expected is not None
    digest = "sha256:" + got.sha256
    if expected.algorithm != "sha256":
        import hashlib

        with open(path, "rb") as file:
            value = hashlib.file_digest(file, expected.algorithm).hexdigest()
        digest = f"{expected.algorithm}:{value}"
    if digest != expected:
        raise UserError(
            f"digest mismatch {digest}: {expected}: {shown_url(op.url)}",
            hints=(f"if the file may have changed, write --checksum={digest}",),
        )


def _finish(path: str, mode: int, last_modified: str) -> None:
    when = _seconds(last_modified) or 0.0
    os.chmod(path, mode)
    os.utime(path, (when, when))
    os.chmod(os.path.dirname(path), 0o755)
    os.utime(os.path.dirname(path), (when, when))


def _seconds(last_modified: str) -> float | None:
    """Read a header of http; None where it says nothing that can be understood."""
    if last_modified:
        from email.utils import parsedate_to_datetime  # brings half of the email package

        with suppress(ValueError, TypeError, OverflowError):
            return parsedate_to_datetime(last_modified).timestamp()
    return None


def _question(op: HttpSource) -> HttpSource:
    """Return *op* without the look of its file, which changes nothing of what a server answers."""
    return HttpSource(
        url=op.url, auth_secret=op.auth_secret, accept=op.accept, user_agent=op.user_agent
    )


def _headers(op: HttpSource) -> dict[str, str]:
    headers = {"Accept": op.accept, "User-Agent": op.user_agent}
    return {name: value for name, value in headers.items() if value}


def _look(op: HttpSource) -> dict[str, Any]:
    headers = {**_headers(op), "secret": op.auth_secret} if op.auth_secret else _headers(op)
    return {"name": name_of(op), "mode": op.mode, "uid": op.uid, "gid": op.gid, **headers}


def _pinned(op: HttpSource) -> Digest:
    """Return the name of what is kept of a file that is known by its checksum."""
    return Digest.of_json({"checksum": op.checksum, **_look(op)})


def _renamed(path: str, name: str) -> str:
    there = os.path.join(os.path.dirname(path), name)
    os.rename(path, there)
    return there


def name_of(op: HttpSource, served: str = "") -> str:
    """Return the name of the file, one component whatever URL and server say.

    Args:
        served: the server's name for it, or "".
    """
    text = served if op.server_names and served else op.filename
    name = text.rpartition("/")[2].replace("\0", "")
    if name in ("", ".", ".."):
        return _UNNAMED
    if len(os.fsencode(name)) > 255:
        raise UserError(f"file name too long: {name[:40]}…")
    return name
