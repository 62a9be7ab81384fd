"""Unpack a stranger's archive over an existing directory, which no entry can leave [ADD-2, E156].

The destination is the root while an archive is unpacked, as for the peers, who change their root
to it: links are followed, whether the archive brings them or they were there, but ``/`` and the
last ``..`` of a link are the destination. This is not how layers are applied: ``.wh.`` names are
ordinary files.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.files.archives import Damaged, damaged
from pybuild.executor.files.content import CAPABILITY
from pybuild.executor.files.making import Maker, give, make_node
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.image.layer import confined
from pybuild.image.layer.descent import OPEN_DIR
from pybuild.image.layer.ownership import PREFIX as RESERVED
from pybuild.image.layer.tarreader import TarReader
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.files.archives import Read
    from pybuild.executor.files.owners import Ids
    from pybuild.executor.files.tree import TreePlace
    from pybuild.image.layer.tarreader import Member

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_MAX = 4095
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# Said of a name or a link's target that no file can have.
_UNNAMEABLE = (errno.ENOENT, errno.ENAMETOOLONG)
_KINDS = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}


def unpack(
    read: Read, tree: Tree, dest: str, *, name: str, owner: Ids | None, mtime_ns: int | None
) -> None:
    """Unpack the tar that *read* delivers into the directory *dest*, made if it is missing.

    Args:
        name: the archive's path, for messages.
        owner: given to every entry in place of the archive's owners [ADD-2].
        mtime_ns: of directories that are made for *dest*; entries keep the archive's times.

    Raises:
        Fault: user; the archive is damaged, or an entry would lie outside of *dest*.
    """
    maker = Maker(tree, owner=owner, mtime_ns=mtime_ns)
    with maker.directory(dest) as place:
        root = Tree(place.open_dir(), ledger=tree.ledger)
        work = _Unpacking(root, place.path, owner, name)
    try:
        work.run(TarReader(read))
        while read():
            pass  # a checksum at the end of the stream is still to come
    except Damaged as error:
        raise damaged(name, str(error)) from error
    except Fault:
        raise
    except OSError as error:
        if isinstance(error.filename, str) and error.filename.startswith("/"):
            error.filename = work.shown(error.filename[1:])
        raise
    except Exception as error:
        from pybuild.model.errors import PybuildError

        if isinstance(error, PybuildError):
            raise damaged(name, error.message) from error
        raise
    finally:
        work.close()
    maker.finish()


class _Maker(Maker):
    """Makes the directories that an archive leaves out; they are root's, whatever --chown says."""

    def __init__(self, tree: Tree, times: dict[str, int]) -> None:
        super().__init__(tree, owner=(0, 0), mtime_ns=None)
        self._times = times

    def make(self, fd: int, name: str, path: str) -> None:
        super().make(fd, name, path)
        self._times.pop(path, None)  # of another directory, which was here before


class _Unpacking:
    """One archive being unpacked into *tree*, which is the destination; owns the tree."""

    def __init__(self, tree: Tree, dest: str, owner: Ids | None, name: str) -> None:
        self._tree = tree
        self._dest = dest
        self._owner = owner
        self._name = name
        self._times: dict[str, int] = {}
        self._maker = _Maker(tree, self._times)
        self._parent: TreePlace | None = None
        self._parent_name = ""
        self._parent_fd = -1

    def run(self, reader: TarReader) -> None:
        while (member := reader.next()) is not None:
            parts = self._parts(member.name, member.name)
            if not parts:
                continue
            try:
                self._member(reader, member, parts)
            except OSError as error:
                if error.errno not in _UNNAMEABLE:
                    if not str(error.filename or "").startswith("/"):
                        error.filename, error.filename2 = "/" + "/".join(parts), None
                    raise
                reason = (error.strerror or "").lower()
                raise damaged(self._name, f"entry {_shown(member.name)}: {reason}") from error
        for path, time_ns in self._times.items():
            self._date(path, time_ns)

    def _date(self, path: str, time_ns: int) -> None:
        """Give a directory its time, unless a later entry has put something else in its place."""
        try:
            made = confined.open_beneath(self._tree.fd, os.fsencode(path))
        except OSError as error:
            if error.errno in _REPLACED:
                return
            raise
        try:
            os.utime(made, ns=(time_ns, time_ns))
        finally:
            os.close(made)

    def close(self) -> None:
        self._leave()
        self._tree.close()

    def _leave(self) -> None:
        if self._parent is not None:
            self._parent.close()
            os.close(self._parent_fd)
            self._parent = None

    def shown(self, path: str) -> str:
        """Return *path*, which is one below the destination, as messages have it."""
        return "/" + "/".join(part for part in (self._dest, path) if part)

    # --- where ------------------------------------------------------------------------------------

    def _parts(self, path: bytes, entry: bytes) -> list[str]:
        if len(path) > _PATH_MAX:
            raise damaged(self._name, f"an entry has a name of {len(path)} bytes")
        parts: list[str] = []
        for part in os.fsdecode(path).split("/"):
            if part == "..":
                if not parts:
                    raise damaged(
                        self._name, f"entry {_shown(entry)} lies outside of the destination"
                    )
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return parts

    def _enter(self, parts: list[str]) -> tuple[int, str]:
        """Return the directory *parts* below the destination, made if missing, and its real path."""
        name = "/".join(parts)
        if self._parent is None or name != self._parent_name:
            self._leave()
            try:
                place = self._maker.directory(name)
            except Fault as fault:
                message = f'cannot unpack "/{self._name}" to {self.shown("")}: {fault.message}'
                raise Fault(fault.kind, message, fault.hints) from fault
            try:
                self._parent_fd = place.open_dir()
            except BaseException:
                place.close()
                raise
            self._parent, self._parent_name = place, name
        return self._parent_fd, self._parent.path

    # --- what -------------------------------------------------------------------------------------

    def _member(self, reader: TarReader, member: Member, parts: list[str]) -> None:
        fd, above = self._enter(parts[:-1])
        name = parts[-1]
        path = f"{above}/{name}" if above else name
        try:
            there = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is not None and not (member.kind == b"5" and stat.S_ISDIR(there.st_mode)):
            if member.kind == b"1" and self._is_itself(member, there):
                return
            if stat.S_ISDIR(there.st_mode) or stat.S_ISLNK(there.st_mode):
                # What was resolved before may have led through it.
                self._leave()
                fd, _ = self._enter(parts[:-1])
            confined.remove(fd, os.fsencode(name))
            there = None
        if member.kind == b"0":
            self._file(reader, member, fd, name, path)
        elif member.kind == b"5":
            self._directory(member, fd, name, path, there is None)
        elif member.kind == b"1":
            self._hard_link(member, fd, name)
        elif member.kind == b"2":
            os.symlink(os.fsdecode(member.link), name, dir_fd=fd)
            self._leaf(member, fd, name, path)
        else:
            self._node(member, fd, name, path)

    def _file(self, reader: TarReader, member: Member, fd: int, name: str, path: str) -> None:
        out = os.open(name, _CREATE, 0o600, dir_fd=fd)
        try:
            for piece in reader.chunks():
                write_all(out, piece)
            self._attributes(member, out, path)
            os.utime(out, ns=(member.mtime_ns, member.mtime_ns))
        except OSError as error:
            if error.filename is None:
                error.filename = "/" + path
            raise
        finally:
            os.close(out)

    def _directory(self, member: Member, fd: int, name: str, path: str, is_new: bool) -> None:
        if is_new:
            os.mkdir(name, 0o700, dir_fd=fd)
        made = os.open(name, OPEN_DIR, dir_fd=fd)
        try:
            self._attributes(member, made, path)
        finally:
            os.close(made)
        self._times[path] = member.mtime_ns

    def _hard_link(self, member: Member, fd: int, name: str) -> None:
        place = self._target(member)
        with place:
            if place.status is None or stat.S_ISDIR(place.status.st_mode):
                raise damaged(
                    self._name,
                    f"hard link {_shown(member.name)} points to {_shown(member.link)}, "
                    "which is no file",
                )
            os.link(place.name, name, src_dir_fd=place.fd, dst_dir_fd=fd, follow_symlinks=False)

    def _target(self, member: Member) -> TreePlace:
        parts = self._parts(member.link, member.name)
        try:
            return self._tree.locate("/".join(parts), follow=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise damaged(
                self._name,
                f"hard link {_shown(member.name)} points to {_shown(member.link)}, "
                "which is not there",
            ) from error
        except Fault as fault:
            raise damaged(
                self._name, f"hard link {_shown(member.name)}: {fault.message}"
            ) from fault

    def _is_itself(self, member: Member, there: os.stat_result) -> bool:
        """Return whether a hard link's target is what stands at its name already."""
        with self._target(member) as place:
            return place.status is not None and (place.status.st_dev, place.status.st_ino) == (
                there.st_dev,
                there.st_ino,
            )

    def _node(self, member: Member, fd: int, name: str, path: str) -> None:
        device = os.makedev(member.major, member.minor)
        if member.kind == b"3" and not device:
            raise damaged(self._name, f"entry {_shown(member.name)} is the device 0:0")
        if member.kind == b"6":
            device = 0
        try:
            mode = _KINDS[member.kind] | 0o600
            make_node(fd, name, mode, device, ledger=self._tree.ledger)
        except PermissionError as error:
            raise Fault(
                ENVIRONMENT,
                f"cannot make the device {self.shown(path)}: {(error.strerror or '').lower()}",
                ("only a build as root can make devices",),
            ) from error
        self._leaf(member, fd, name, path)

    def _ids(self, member: Member) -> Ids:
        return self._owner if self._owner is not None else (member.uid, member.gid)

    def _leaf(self, member: Member, fd: int, name: str, path: str) -> None:
        give(self.shown(path)[1:], fd, self._ids(member), name, ledger=self._tree.ledger)
        if member.kind != b"2":
            os.chmod(name, member.mode, dir_fd=fd)
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

    def _attributes(self, member: Member, fd: int, path: str) -> None:
        """Owner first: chown drops set-uid bits and capabilities."""
        give(self.shown(path)[1:], fd, self._ids(member), ledger=self._tree.ledger)
        os.fchmod(fd, member.mode)
        for key, value in member.xattrs.items():
            if key == CAPABILITY or (key.startswith("user.") and not key.startswith(RESERVED)):
                try:
                    os.setxattr(fd, key, value)
                except OSError:
                    pass  # best effort, as for copies [CP-23]


def _shown(name: bytes) -> str:
    from pybuild.image.layer.faults import shown

    return shown(name)
