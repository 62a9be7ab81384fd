"""The pod of a store: the network namespace that a plain user's containers have in place of the machine's.

Bridges, packet filter and name servers are made in it as root makes them on the machine. It belongs to the
user namespace that the store's containers are in. A process holds it, and has it connected to the outside;
those that serve containers live in it, and hold it, too: who kills the holder cuts nobody off, and the next
one takes the same namespace.

<root>/networks/pod/
  holder  locked by the process that holds it; its number, and where it has the namespace
  users   a pipe that all who need the pod have open; the holder leaves when nobody has
"""

from __future__ import annotations

import os
import select

from pybuild.cache.disk.locks import is_alive, locked
from pybuild.executor.zygote import isolation, syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.networks import outside
from pybuild.networks.kernelstate import set_sysctl
from pybuild.networks.records import HELPERS, NetworkFiles
from pybuild.networks.rtnetlink import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

POD = "pod"
_HOLDER, _USERS = "holder", "users"
_LINGER_MS = 3_000
_MOST_BYTES = 4096
_LOOPBACK = 1
_SIGKILL = 9


def is_used() -> bool:
    """Whether containers of this process, which is a spawner's, have a pod: all rungs below root's."""
    return isolation.in_zygote() and isolation.rung() in (
        isolation.USERNS,
        isolation.USERNS_SINGLE,
    )


def enter(store: NetworkFiles) -> list[str]:
    """Have this process in the pod for good, which is made if there is none; return warnings about that.

    The caller holds the lock of the networks.

    Raises:
        Fault, OSError: it cannot be.
    """
    users = _open_users(store.folder, os.O_RDWR)
    warnings: list[str] = []
    try:
        warnings = hold(store)
        namespace = _open(_place_of(_path(store.folder, _HOLDER)))
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        finally:
            os.close(namespace)
    except BaseException:
        os.close(users)
        raise
    return warnings


def process(folder: str) -> int:
    """Return the number of a process of the user namespace that the pod belongs to; 0: there is none."""
    return int((_any_place(folder) or "0").partition("/")[0])


def hold(store: NetworkFiles) -> list[str]:
    """Have the pod held, again or from now on; return warnings.

    The caller holds the lock of the networks, and is in the machine's network namespace.

    Raises:
        Fault, OSError: it cannot be.
    """
    if _holder(store.folder):
        return []
    ours, theirs = os.pipe()
    namespace = -1
    try:
        place = _any_place(store.folder)
        namespace = _open(place) if place else -1
        child, pidfd = syscalls.clone3(0)
        if child == 0:
            try:
                # Of no child of ours: it is to outlive us, and who is to reap it then is not us.
                if syscalls.clone3(0)[0] == 0:
                    _become_holder(store, namespace, theirs)
            finally:
                os._exit(1)
        os.close(pidfd)
        os.close(theirs)
        theirs = -1
        os.waitpid(child, 0)
        said = os.read(ours, _MOST_BYTES)
    finally:
        syscalls.close_quietly(*(fd for fd in (ours, theirs, namespace) if fd >= 0))
    if not said:
        raise Fault(
            ENVIRONMENT,
            "a network namespace of the containers' own cannot be made",
            ("use the host's network: --network host", "or run as root"),
        )
    return said.decode().splitlines()[1:]


def is_held(folder: str) -> bool:
    """Whether there is a pod, with a process that holds it."""
    return bool(_holder(folder))


def find_holder(folder: str) -> int:
    """Return the number of the process that holds the pod, which is another where that was killed.

    Raises:
        Fault, OSError: there can be none.
    """
    if number := _holder(folder):
        return number
    store = NetworkFiles(folder)
    with locked(store.lock):
        hold(store)
    return _holder(folder)


def sign(lock: int, where: str = "ns/net") -> None:
    """Write into the lock file of this process where under its ``/proc`` it has the pod, to be found by it."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}/{where}".encode(), 0)


def _holder(folder: str) -> int:
    return int((_place_of(_path(folder, _HOLDER)) or "0").partition("/")[0])


def _any_place(folder: str) -> str:
    """Return where some process has the pod, "": none has."""
    helpers = os.path.join(folder, HELPERS)
    try:
        paths = [os.path.join(helpers, name) for name in os.listdir(helpers)]
    except FileNotFoundError:
        paths = []
    for path in (_path(folder, _HOLDER), *paths):
        if place := _place_of(path):
            return place
    return ""


def _place_of(path: str) -> str:
    """Return the text of a lock file whose owner lives, "": it has none."""
    if not is_alive(path):
        return ""
    try:
        with open(path, encoding="ascii") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return ""


def _open(place: str) -> int:
    return os.open(f"/proc/{place}", os.O_RDONLY | os.O_CLOEXEC)


def _path(folder: str, name: str) -> str:
    return os.path.join(folder, POD, name)


def _open_users(folder: str, flags: int) -> int:
    path = _path(folder, _USERS)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.mkfifo(path, 0o600)
    except FileExistsError:
        pass
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


# --- the holder -----------------------------------------------------------------------------------


def _become_holder(store: NetworkFiles, namespace: int, answer: int) -> NoReturn:
    """Hold the pod as long as somebody needs it. *answer* gets a line when it is there, and warnings."""
    os.setsid()
    os.chdir("/")
    kept = sorted(fd for fd in (2, namespace, answer) if fd >= 0)
    for before, after in zip([-1, *kept], [*kept, 1 << 20], strict=True):
        os.closerange(before + 1, after)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    if namespace < 0:
        namespace = _new_namespace()
    lock = _locked_file(store.folder)
    users = _open_users(store.folder, os.O_RDONLY)
    line = outside.OutsideLine(namespace)
    sign(lock, f"fd/{namespace}")
    os.write(answer, "\n".join(["held", *line.warnings]).encode())
    os.close(answer)
    poller = select.poll()
    poller.register(users, 0)  # its end is always told
    while True:
        line.watch(poller)
        for fd, _ in poller.poll(line.patience_ms()):
            if fd != users:
                line.has_ended()
            elif _is_left(store, poller, users, lock):
                line.end()
                os._exit(0)
        line.go_on()


def _is_left(store: NetworkFiles, poller: select.poll, users: int, lock: int) -> bool:
    """Wait a little for others to come; True: nobody has, and nobody finds this holder any more."""
    waiting = select.poll()
    waiting.poll(_LINGER_MS)
    with locked(store.lock):
        if not any(fd == users for fd, _ in poller.poll(0)):
            return False
        os.ftruncate(lock, 0)
        os.close(lock)
    return True


def _locked_file(folder: str) -> int:
    import fcntl

    fd = os.open(_path(folder, _HOLDER), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _new_namespace() -> int:
    """Return a network namespace of our user namespace, made by a child: who goes there cannot come back."""
    ours, theirs = os.pipe()
    child, pidfd = syscalls.clone3(0)
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            with Rtnetlink() as kernel:
                kernel.set_up(_LOOPBACK)
            set_sysctl("ipv4/ip_forward", "1")
            os.write(theirs, b"+")
            select.poll().poll()
        finally:
            os._exit(1)
    os.close(theirs)
    try:
        if not os.read(ours, 1):
            raise OSError(1, "no network namespace")
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ours)
        os.kill(child, _SIGKILL)
        os.waitpid(child, 0)
        os.close(pidfd)
