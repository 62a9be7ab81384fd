"""The mounts of a step as files and directories that are moved into its root [MNT].

A snapshot or a directory is copied, so that what a step writes there is lost; a cache is the real
one, moved in and back, because nobody else uses it meanwhile. A secret is a file of the store while
the step runs, and deleted after it.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.steps.spec import StepMountType
from pybuild.executor.zygote import confined, isolation
from pybuild.executor.zygote.chroot import devices
from pybuild.executor.zygote.copied import leaves, scanning
from pybuild.executor.zygote.copied.difference import collect
from pybuild.executor.zygote.copied.merging import merge
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepMount, StepSpec
    from pybuild.executor.zygote.copied.scanning import Marks


class MountSources:
    """The sources that are moved in, ``(path, target)``, outer targets first.

    Args:
        directory: a path for a directory of ours, on the file system of the step's root.
    """

    def __init__(self, directory: str, *, userxattr: bool) -> None:
        self._directory = directory
        self._userxattr = userxattr
        self._count = 0
        self._secrets: list[str] = []
        self._kept: list[tuple[str, Marks, str]] = []
        self.warnings: list[str] = []
        os.mkdir(directory, 0o700)

    def prepare(self, spec: StepSpec) -> list[tuple[str, str]]:
        """Make all that *spec* asks for.

        Raises:
            Fault: user or environment; what cannot be had without mounts is refused.
        """
        sources: list[tuple[str, str]] = []
        kernels = [(self._empty(0o555), "/proc"), (self._empty(0o555), "/sys")]
        if isolation.mounts():
            kernels.append((self._empty(0o755), "/dev"))  # each is mounted on
        else:
            dev = self._path()
            self.warnings += devices.make(dev)
            kernels.append((dev, "/dev"))
        etc = (("/etc/resolv.conf", spec.resolv_conf), ("/etc/hosts", spec.hosts))
        for target, content in etc:
            if content is not None:
                sources.append((self._write(content, 0o644, 0, 0), target))
        for mount in spec.mounts:
            target = os.path.normpath("/" + mount.target.lstrip("/"))
            if target == "/":
                raise Fault(USER, 'invalid mount target "/"')
            sources.append((self._source(mount, target), target))
        # The kernel's first: a target may lie in them by a link.
        return kernels + sorted(sources, key=lambda one: one[1].split("/"))

    def finish(self) -> None:
        """Keep what is to be kept of copies, not of secrets; all is back where it was made."""
        self.forget()
        for path, before, upper in self._kept:
            collect(path, before, upper, userxattr=self._userxattr)

    def forget(self) -> None:
        """Delete the secrets; idempotent.

        They are not overwritten: a pipe that somebody still reads may hold the very page (splice).
        """
        while self._secrets:
            try:
                os.unlink(self._secrets.pop())
            except FileNotFoundError:
                pass

    def _source(self, mount: StepMount, target: str) -> str:
        match mount.type:
            case StepMountType.TMPFS:
                if mount.size_bytes:
                    self.warnings.append(
                        f"the size of the tmpfs on {target} is not enforced: it is a directory"
                    )
                path = self._empty(0o1777 if mount.mode is None else mount.mode)
                os.chown(path, mount.uid, mount.gid)
                return path
            case StepMountType.SECRET:
                mode = 0o400 if mount.mode is None else mount.mode
                path = self._write(mount.data, mode, mount.uid, mount.gid)
                self._secrets.append(path)
                return path
            case StepMountType.DEVICE:
                path = self._path()
                devices.copy(mount.source, path)
                return path
            case StepMountType.BIND_PATH:
                return self._bind(mount, target)
            case StepMountType.BIND_OVERLAY:
                return self._stack(mount, target)
            case other:
                raise Fault(USER, f'unsupported mount type "{other}"')

    def _bind(self, mount: StepMount, target: str) -> str:
        source = mount.source
        try:
            mode = os.stat(source).st_mode
        except OSError as error:
            text = (error.strerror or "").lower()
            raise Fault(USER, f'mount source "{source}": {text}') from error
        if mount.exclusive and not mount.readonly:
            return source
        if stat.S_ISSOCK(mode):
            return self._socket(source)
        if not (mount.readonly or mount.discard_writes):
            raise Fault(
                ENVIRONMENT,
                f'mount target "{target}": {source} cannot be mounted, and a copy '
                "would not take writes back to it",
                ("mount it read-only, then it is copied", "allow mounts: see pybuild doctor"),
            )
        fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            return self._select(fd, mount.selector)
        finally:
            os.close(fd)

    def _socket(self, source: str) -> str:
        """Give a socket a second name: whoever connects to it reaches the same listener."""
        path = self._path()
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise Fault(
                ENVIRONMENT,
                f'mount source "{source}": a socket of another file system cannot be handed in',
            ) from error
        return path

    def _stack(self, mount: StepMount, target: str) -> str:
        whole = not mount.selector.strip("/")
        if mount.upper and not whole:
            raise Fault(
                ENVIRONMENT,
                f'mount target "{target}": changes to a part of a tree cannot be kept '
                "without mounts",
                ("allow mounts: see pybuild doctor",),
            )
        path = self._empty(0o755)
        if whole:
            merge(mount.lowers, path, leaves.copy_real, userxattr=self._userxattr)
            if mount.upper and not mount.readonly:
                self._kept.append((path, scanning.scan(path), mount.upper))
            return path
        merge(mount.lowers, path, leaves.link, userxattr=self._userxattr)
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._select(fd, mount.selector)
        finally:
            os.close(fd)

    def _select(self, base: int, selector: str) -> str:
        """Copy what *selector* means inside *base*, links resolved inside it [MNT-13]."""
        inside = selector.strip("/")
        try:
            chosen = confined.open_in(base, inside) if inside else os.dup(base)
        except OSError as error:
            text = "not found" if error.errno == errno.ENOENT else (error.strerror or "").lower()
            raise Fault(USER, f'mount source "{selector}": {text}') from error
        try:
            status = os.fstat(chosen)
            if stat.S_ISDIR(status.st_mode):
                path = self._empty(0o755)
                here = [f"/proc/self/fd/{chosen}"]
                merge(here, path, leaves.copy_real, userxattr=self._userxattr)
                return path
            path = self._path()
            leaves.copy_open(chosen, path, status)
            return path
        finally:
            os.close(chosen)

    # --- our own files ----------------------------------------------------------------------------

    def _path(self) -> str:
        self._count += 1
        return f"{self._directory}/{self._count}"

    def _empty(self, mode: int) -> str:
        path = self._path()
        os.mkdir(path)
        os.chmod(path, mode)
        return path

    def _write(self, data: bytes, mode: int, uid: int, gid: int) -> str:
        path = self._path()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, data)
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode & 0o777)
        finally:
            os.close(fd)
        return path
