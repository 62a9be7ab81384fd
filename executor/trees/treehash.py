"""Content digests: one number for what a selection of a tree holds [KEY-2, KEY-12, KEY-17].

The digest is over the entries in the order of a walk that sorts names in each directory, files first, so
no list of them is held. An entry is its path relative to the selection, and what it is: type, mode, owner, size,
device number, and a digest of link target, extended attributes and bytes. Times, inodes and hard-link
counts never count, nor does where the tree lies.

Lean: used in the main process for directories of the client, and in workers for snapshots.
"""

from __future__ import annotations

import hashlib
import os
import stat

from pybuild.executor.files.content import counted_xattrs
from pybuild.executor.files.selecting import NoFolder, Picker, find, select
from pybuild.executor.files.tree import GONE
from pybuild.executor.trees.filereading import (
    FileGone,
    FileReader,
    stamp,
    unreadable,
)
from pybuild.executor.trees.treefiles import LOOK, WHAT_BYTES, FilesMaker, signature_of
from pybuild.executor.zygote.faults import USER, Fault, moved
from pybuild.image.layer.descent import OPEN_DIR
from pybuild.model.files import body_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pybuild.executor.files.tree import Tree, TreePlace
    from pybuild.executor.trees.seen import Seen
    from pybuild.executor.trees.treefacts import TreeFacts
    from pybuild.executor.trees.treefiles import DirectoryFiles, KnownFiles
    from pybuild.model.files import FileIndex
    from pybuild.model.selection import Selection

    _Entry = tuple[str, bytes, str, str]
    _Listed = list[tuple[str, os.stat_result]]


MAX_LISTED = 100_000
"""More entries of a directory of ours are not listed: nobody reads on."""
MAX_SENT = 3000
"""As many of a snapshot, whose list comes from a worker and is kept beside its digest."""
_FORMAT = b"pybuild.tree.v3\0"
_NOTHING = bytes(32)
_DIRECTORY = b"directory".ljust(WHAT_BYTES)
_DANGLING = b"dangling".ljust(WHAT_BYTES)


class NotFound(Fault):
    """A selected path is not there.

    Attributes:
        hidden: the real path that an ignore pattern hides, where that is why.
        above_pattern: it is the directory whose entries a pattern is to match.
    """

    def __init__(self, path: str, hidden: str | None, *, above_pattern: bool = False) -> None:
        super().__init__(USER, f'"{path}": not found')
        self.path = path
        self.hidden = hidden
        self.above_pattern = above_pattern


def tree_digest(
    tree: Tree,
    selection: Selection,
    index: FileIndex | None = None,
    facts: TreeFacts | None = None,
    known: KnownFiles | None = None,
    seen: Seen | None = None,
) -> tuple[str, list[tuple[str, str]]]:
    """Return ``sha256:…`` over what *selection* picks from *tree*, and the entries by path.

    Args:
        index: asked before a file is read.
        facts: filled, and *plain* afterwards if what was picked is one directory or its contents.
        known: remembers the files of whole directories.
        seen: told how all that counts looked. A file of the client that changes while it is read
            is taken as it was read, or as not there, and *seen* is told of it.

    The entries are ``(path, look)`` as `model.named` has them; none when they are too many.

    Raises:
        NotFound: a path without wildcard is not there. Fault: user or environment.
    """
    work = _Digesting(tree, selection, index, facts, known, seen=seen)
    work.run()
    return "sha256:" + work.total.hexdigest(), sorted(work.listed or ())


def add_facts(
    facts: TreeFacts,
    tree: Tree,
    selection: Selection,
    index: FileIndex | None,
    only: Mapping[str, Sequence[str]],
    since_ns: int,
) -> None:
    """Fill *facts* as `tree_digest` does, but with the names of *only* in each directory alone.

    Args:
        only: by the directory's path below the one that is selected; what is gone is passed over.
        since_ns: what has changed since then is a fault.

    Raises: as `tree_digest` does.
    """
    _Digesting(tree, selection, index, facts, None, only, since_ns=since_ns).run()


class _Digesting:
    def __init__(
        self,
        tree: Tree,
        selection: Selection,
        index: FileIndex | None,
        facts: TreeFacts | None = None,
        known: KnownFiles | None = None,
        only: Mapping[str, Sequence[str]] | None = None,
        seen: Seen | None = None,
        since_ns: int = 0,
    ) -> None:
        self._since_ns = since_ns
        self._tree = tree
        self._seen = seen
        if seen is not None:
            tree.watch = seen.place
        self._selection = selection
        self._index = index
        self._facts = facts
        self._known = known
        self._only = only
        self._keep_owner = selection.keep_owner
        self._exclude = selection.exclude
        self._picker = Picker(self._exclude)
        self._flags = self._keep_owner | tree.git_modes << 1
        self._has_any = False
        self._most = MAX_LISTED if tree.is_local else MAX_SENT
        self._reader = FileReader(index, seen, is_local=tree.is_local)
        self.total = hashlib.sha256(_FORMAT)
        self.listed: list[tuple[str, str]] | None = []
        """Entries that count, for people: path inside the tree and look; None: too many."""

    def _count(self, key: str, what: bytes, path: str, look: str) -> None:
        """Take in an entry: the key by which it counts, what it is; for people path and look."""
        # No name has a NUL, and what follows it is as long each time.
        self.total.update(b"one\0%s\0%s" % (key.encode("utf-8", "surrogateescape"), what))
        self._has_any = True
        self._list([(path, look)] if path else [])

    def _count_files(self, key: str, files: DirectoryFiles, path: str) -> None:
        """Take in the files of a directory, by its key and path."""
        # No name is empty, so what follows the second NUL in a row is as long as their number says.
        name = key.encode("utf-8", "surrogateescape")
        self.total.update(b"all\0%s\0%s\0%s" % (name, files.names, files.whats))
        self._has_any = True
        if self.listed is not None:
            self._list(files.listed(path + "/" if path else ""))

    def _list(self, entries: list[tuple[str, str]]) -> None:
        if self.listed is not None:
            self.listed += entries
            if len(self.listed) > self._most:
                self.listed = None

    def run(self) -> None:
        path, wildcard = self._selection.path, self._selection.wildcard
        pivot = self._selection.parents_pivot
        if self._facts is not None and (pivot is not None or self._exclude):
            self._facts.give_up()
        if pivot is not None:
            self._parents(path, wildcard, pivot)
            return
        try:
            sources = select(self._tree, path, wildcard=wildcard, lenient=False)
        except NoFolder as missing:
            raise NotFound(missing.path, missing.hidden, above_pattern=True) from missing
        if self._facts is not None and not (len(sources) == 1 and not sources[0].is_match):
            self._facts.give_up()
        for source in sources:
            try:
                place = find(self._tree, source.path, follow=self._selection.follow_links)
            except FileNotFoundError as error:
                if source.is_match:
                    # A dangling link. The copy will fail, and must not hit what once did not.
                    self._count(source.key, _DANGLING, source.path, "dangling")
                    continue
                raise NotFound("/" + source.path, getattr(error, "path", None)) from error
            with place:
                try:
                    self._one(place, source.key, source.name, source.is_match)
                except FileGone as error:
                    raise NotFound("/" + source.path, None) from error
        if not sources and not self._selection.allow_empty:
            raise NotFound(path, None)
        if wildcard and "**" in path:
            # Whoever leaves the pivot out may still mean --parents; what is picked then is added.
            self._parents(path, True, 0)

    def _one(self, place: TreePlace, key: str, name: str, is_match: bool) -> None:
        assert place.status is not None
        if not place.is_dir:
            if self._facts is not None:
                self._facts.give_up()
            if self._seen is not None:
                self._seen.place(place.path, place.status)
            what, look, _ = self._entry(place.fd, place.name, place.status, place.path)
            self._count(key, what, place.path, look)
            return
        fd = _open_dir(place)
        try:
            # The prefix of a match counts: which name wins in a merge depends on its order.
            prefix = key + "/" if is_match or not self._selection.contents_only else ""
            if self._selection.contents_only:
                # That it is a directory counts even when empty, what it looks like does not.
                what, look = _DIRECTORY, "directory"
            else:
                body = _body_of(counted_xattrs(fd))
                what, look = _what(place.status, self._keep_owner, body)
            self._count(prefix, what, place.path, look)
            if self._facts is not None:
                attributes = bool(counted_xattrs(fd))
                self._facts.add_directory("", place.status, what, attributes=attributes)
            self._directory(fd, place.path, prefix, "", None)
        finally:
            os.close(fd)

    def _parents(self, path: str, wildcard: bool, pivot: int) -> None:
        parts = [part for part in path.split("/") if part]
        root, pattern = "/".join(parts[:pivot]), "/".join(parts[pivot:])
        for source in select(self._tree, root, wildcard=wildcard):
            try:
                place = find(self._tree, source.path, follow=True)
            except FileNotFoundError as error:
                raise NotFound(path, getattr(error, "path", None)) from error
            with place:
                if not place.is_dir:
                    raise NotFound(path, None)
                self._picker = Picker(self._exclude, pattern)
                fd = _open_dir(place)
                try:
                    prefix = source.key + "/" if source.is_match else ""
                    self._directory(fd, place.path, prefix, "", None)
                finally:
                    os.close(fd)
        if not self._has_any and not wildcard and pattern:
            raise NotFound(path, self._hidden(path))

    def _hidden(self, path: str) -> str | None:
        try:
            find(self._tree, path, follow=True).close()
        except FileNotFoundError as error:
            return getattr(error, "path", None)
        return None

    # --- entries ----------------------------------------------------------------------------------

    def _directory(
        self, fd: int, path: str, prefix: str, relative: str, pending: _Pending | None
    ) -> None:
        below = relative + "/" if relative else ""
        directories: _Listed = []
        listed: _Listed = []
        for item in self._listed(fd, path, relative):
            (directories if stat.S_ISDIR(item[1].st_mode) else listed).append(item)
        if self._picker.is_choosy:
            listed = [item for item in listed if self._picker.picks(below + item[0])]
        if listed:
            if pending is not None:
                pending.settle(self._count)
            files = self._files(fd, path, listed)
            self._count_files(prefix + relative, files, path)
            if self._facts is not None:
                self._facts.add_files(relative, files)
        above = path + "/" if path else ""
        for name, status in directories:
            inner = below + name
            picked = self._picker.picks(inner)
            if picked or self._picker.may_pick_below(inner):
                self._inner(fd, name, status, above + name, prefix, inner, picked, pending)

    def _files(self, fd: int, path: str, listed: _Listed) -> DirectoryFiles:
        """Return the entries for the *listed* files of the directory at *path*."""
        known = self._known if self._only is None else None
        signature = b""
        if known is not None or self._seen is not None:
            signature = signature_of(listed, self._flags)
        kept = None if known is None else known.find(path, signature)
        if self._seen is not None:
            self._seen.files(signature, () if kept is not None else listed)
        if kept is not None:
            return kept
        maker = FilesMaker()
        above = path + "/" if path else ""
        self._reader.read_large(fd, above, listed)
        is_still = True
        for name, status in listed:
            try:
                what, look, read = self._entry(fd, name, status, above + name)
            except FileGone:
                is_still = False
                continue
            is_still &= read is status or stamp(read) == stamp(status)
            maker.add(name, what, look, read)
        files = maker.made()
        if known is not None and is_still:
            known.keep(path, signature, listed, files)
        return files

    def _listed(self, fd: int, path: str, relative: str) -> Iterable[tuple[str, os.stat_result]]:
        if self._only is None:
            return self._tree.entries(fd, path)
        entries: list[tuple[str, os.stat_result]] = []
        for name in self._only.get(relative, ()):
            try:
                status = self._tree.status(fd, name)
            except FileNotFoundError:
                continue
            if status.st_ctime_ns > self._since_ns:
                raise moved(f"{path}/{name}".lstrip("/"))
            entries.append((name, status))
        return entries

    def _inner(
        self,
        fd: int,
        name: str,
        status: os.stat_result,
        path: str,
        prefix: str,
        relative: str,
        picked: bool,
        pending: _Pending | None,
    ) -> None:
        try:
            below = os.open(name, OPEN_DIR, dir_fd=fd)
        except OSError as error:
            if self._seen is not None and error.errno in GONE:
                self._seen.moved = path
                return
            raise unreadable(path, error) from error
        try:
            body = _body_of(counted_xattrs(below))
            what, look = _what(status, self._keep_owner, body)
            entry = (prefix + relative, what, path, look)
            if self._facts is not None:
                self._facts.add_directory(relative, status, what, attributes=bool(body))
            # A directory that is not picked itself counts as soon as something below it does.
            own = _Pending(entry, pending)
            if picked:
                own.settle(self._count)
            self._directory(below, path, prefix, relative, own)
        finally:
            os.close(below)

    def _entry(
        self, fd: int, name: str, status: os.stat_result, path: str
    ) -> tuple[bytes, str, os.stat_result]:
        """Return an entry as it counts, its look, and the status that they are by."""
        kind = stat.S_IFMT(status.st_mode)
        target = ""
        if kind == stat.S_IFREG:
            body = self._index.get(status) if self._index is not None else None
            if body is None:
                read, body, is_whole = self._reader.read(fd, name, path)
                read = self._tree.seen(read)
                if self._index is not None and is_whole:
                    self._index.put(read, body)
                # With a ledger the status has what is noted; nobody changes such trees.
                status = read if self._tree.ledger is None else status
        elif kind == stat.S_IFLNK:
            try:
                target = os.readlink(name, dir_fd=fd)
            except OSError as error:
                self._reader.gone(path, error)
            body = _sha256(os.fsencode(target))
        else:
            body = b""
        return *_what(status, self._keep_owner, body, target), status


class _Pending:
    """The entry of a directory that is counted at most once, after those above it."""

    __slots__ = ("_above", "_entry")

    def __init__(self, entry: _Entry, above: _Pending | None) -> None:
        self._entry: _Entry | None = entry
        self._above = above

    def settle(self, count: Callable[[str, bytes, str, str], None]) -> None:
        if self._entry is not None:
            if self._above is not None:
                self._above.settle(count)
            count(*self._entry)
            self._entry = None


def _what(
    status: os.stat_result, keep_owner: bool, body: bytes, target: str = ""
) -> tuple[bytes, str]:
    """Return an entry as it counts, and its look."""
    kind = stat.S_IFMT(status.st_mode)
    # Links have no permissions, and file systems make up sizes for all but files.
    mode = kind | (0o777 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode))
    uid, gid = (status.st_uid, status.st_gid) if keep_owner else (0, 0)
    size = status.st_size if kind == stat.S_IFREG else 0
    device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    seen = f">{target}" if target else body[:8].hex() if body else device
    look = f"{mode:06o} {uid}:{gid} {size} {seen}"
    return LOOK.pack(mode, uid, gid, size, device) + (body or _NOTHING), look


def _body_of(xattrs: list[tuple[str, bytes]]) -> bytes:
    return body_state(xattrs).digest() if xattrs else b""


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _open_dir(place: TreePlace) -> int:
    try:
        return place.open_dir()
    except OSError as error:
        raise unreadable(place.path, error) from error
