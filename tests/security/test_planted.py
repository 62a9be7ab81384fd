"""Stores that somebody else of the machine prepared: refused, or closed; nothing elsewhere changes."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.disk.ownership import doubt, doubt_of_file, is_private, is_trusted
from pybuild.cache.store import Store
from pybuild.daemon.sockets import unix_socket
from pybuild.engine.host import SystemClock
from pybuild.model.errors import EnvironmentFault, UsageError
from tests.harness import Pybuild, write
from tests.security import planting
from tests.security.planting import STRANGER

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of somebody else"),
]
ATTEMPTS = tuple(planting.attempts())


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return planting.make_victim(tmp_path / "victim")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Store.open(tmp_path / "store", SystemClock()).close()
    return tmp_path / "store"


def sweep(root: Path) -> None:
    """Open, write and sweep, as every command that changes something does."""
    with Store.open(root, SystemClock()) as store:
        store.blobs.put(b"x")
        store.deltas.commit(store.deltas.begin())
        store.tmp.sweep()


def refused(root: Path) -> EnvironmentFault:
    with pytest.raises(EnvironmentFault) as caught:
        sweep(root)
    assert caught.value.hints
    return caught.value


# --- what is in a store -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "what", "plant"), ATTEMPTS, ids=[f"{place}-{what}" for place, what, _ in ATTEMPTS]
)
def test_a_store_that_others_could_write_to_is_looked_through(
    root: Path, victim: Path, place: str, what: str, plant: planting.Plant
) -> None:
    """Root's own directory, made under an open umask: somebody was there first."""
    planting.put(root, place, plant, victim)
    root.chmod(0o777)
    before = planting.state(victim)
    error = refused(root)
    assert str(root) in error.message
    assert place in error.message
    assert planting.state(victim) == before


INHERITED = [one for one in ATTEMPTS if "link" in one[1] or "stranger" in one[1]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "what", "plant"), INHERITED, ids=[f"{place}-{what}" for place, what, _ in INHERITED]
)
def test_a_store_that_is_closed_now_is_still_looked_at(
    root: Path, victim: Path, place: str, what: str, plant: planting.Plant
) -> None:
    """Inherited from another user: its directory is ours and closed, what is in it was not."""
    planting.put(root, place, plant, victim)
    before = planting.state(victim)
    assert place in refused(root).message
    assert planting.state(victim) == before


@pytest.mark.parametrize("place", planting.PLACES)
def test_a_strangers_store_is_refused_whatever_is_in_it(
    root: Path, victim: Path, place: str
) -> None:
    planting.put(root, place, planting.DIRECTORY_PLANTS["a link"], victim)
    planting.give_away(root)
    before = planting.state(victim), planting.state(root)
    error = refused(root)
    assert f"belongs to uid {STRANGER}" in error.message
    assert (planting.state(victim), planting.state(root)) == before
    assert not is_private(str(root))


# --- where a store is ---------------------------------------------------------------------------


def _foreign_parent(top: Path, victim: Path) -> Path:
    os.chown(top, STRANGER, STRANGER)
    return top / "store"


def _open_parent(top: Path, victim: Path) -> Path:
    top.chmod(0o777)
    return top / "store"


def _foreign_sticky_parent(top: Path, victim: Path) -> Path:
    top.chmod(0o1777)
    os.chown(top, STRANGER, STRANGER)
    return top / "store"


def _group_parent(top: Path, victim: Path) -> Path:
    os.chown(top, 0, STRANGER)
    top.chmod(0o775)
    return top / "store"


def _planted_link(top: Path, victim: Path) -> Path:
    (top / "link").symlink_to(victim / "fs")
    os.chown(top / "link", STRANGER, STRANGER, follow_symlinks=False)
    top.chmod(0o1777)
    return top / "link"


def _link_on_the_way(top: Path, victim: Path) -> Path:
    return _planted_link(top, victim) / "store"


def _own_link_to_a_foreign_place(top: Path, victim: Path) -> Path:
    (top / "theirs").mkdir()
    os.chown(top / "theirs", STRANGER, STRANGER)
    (top / "link").symlink_to("theirs")
    return top / "link" / "store"


def _everybodys(top: Path, victim: Path) -> Path:
    (top / "tmp").mkdir()
    (top / "tmp").chmod(0o1777)
    return top / "tmp"


WAYS: tuple[Callable[[Path, Path], Path], ...] = (
    *(_foreign_parent, _open_parent, _foreign_sticky_parent, _group_parent, _planted_link),
    *(_link_on_the_way, _own_link_to_a_foreign_place, _everybodys),
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("there", [False, True], ids=["new", "made before"])
def test_a_place_that_others_can_exchange_is_no_place_for_roots_store(
    tmp_path: Path, victim: Path, way: Callable[[Path, Path], Path], there: bool
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    root = way(top, victim)
    if there and not root.exists():
        root.mkdir(0o700)
    before = planting.state(victim), planting.state(top)
    refused(root)
    assert (planting.state(victim), planting.state(top)) == before


@pytest.mark.parametrize(
    ("mode", "uid", "gid"),
    [(0o755, 0, 0), (0o1777, 0, 0), (0o775, 0, 0), (0o700, 0, STRANGER)],
    ids=["usual", "sticky", "of root's group", "closed"],
)
def test_a_usual_place_is_one(tmp_path: Path, mode: int, uid: int, gid: int) -> None:
    top = tmp_path / "top"
    top.mkdir()
    os.chown(top, uid, gid)
    top.chmod(mode)
    sweep(top / "store")
    (top / "link").symlink_to("store")
    sweep(top / "link")


def test_who_called_us_through_sudo_may_own_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, STRANGER, STRANGER)
    assert doubt(str(tmp_path / "store"))
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert not doubt(str(tmp_path / "store"))
    sweep(tmp_path / "store")


def test_what_leads_elsewhere_after_it_was_opened_is_not_swept(
    tmp_path: Path, victim: Path
) -> None:
    """Somebody who may exchange the store does so while a command of a plain user runs."""
    root = tmp_path / "store"
    with Store.open(root, SystemClock()) as store:
        store.tmp.name()
        root.rename(tmp_path / "aside")
        root.mkdir()
        for name in ("tmp", "leases", "locks"):
            (root / name).symlink_to(victim)
        before = planting.state(victim)
        store.tmp.sweep()
        store.tmp.delete(os.path.join(store.tmp.path, "fs"))
        assert planting.state(victim) == before


# --- commands -----------------------------------------------------------------------------------

COMMANDS = (
    *(("du",), ("prune", "--force", "--all"), ("images",), ("cache", "mounts", "ls")),
    *(("why-kept", "app"), ("explain",), ("rmi", "app"), ("tag", "app", "b")),
    *(("save", "app", "-o", "app.tar"), ("pull", "127.0.0.1:1/a"), ("run", "app"), ("load",)),
    *(
        ("daemon", "--addr", "unix:///nonexistent/s"),
        ("registry", "serve", "--addr", "127.0.0.1:0"),
    ),
    *(("build", "."), ("build", "-o", "out", "."), ("verify", "."), ("import", "x.tar")),
    *(("inspect", "app"), ("history", "app"), ("registry", "ls")),
)


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_of_root_touches_a_store_that_a_stranger_prepared(
    tmp_path: Path, victim: Path, root: Path, words: tuple[str, ...]
) -> None:
    for place in ("tmp", "mounts", "snapshots", "memo", "leases", "locks", "logs", "records"):
        planting.put(root, place, planting.DIRECTORY_PLANTS["a link"], victim)
    planting.give_away(root)
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    with tarfile.open(context / "x.tar", "w") as tar:
        tar.add(context / "Dockerfile", "Dockerfile")
    before = planting.state(victim), planting.state(root)
    done = Pybuild(root)(*words, cwd=context, code=None, timeout=60)
    assert done.code in (1, 3, 125), done
    first, second, *_ = done.err.splitlines()
    assert first.startswith(f"error: store {root} is not for uid 0; it belongs to uid {STRANGER}")
    assert second.startswith("hint: run this as that user")
    assert (planting.state(victim), planting.state(root)) == before


@pytest.mark.slow
def test_doctor_says_so_and_makes_nothing_there(tmp_path: Path, root: Path) -> None:
    planting.give_away(root)
    before = planting.state(root)
    done = Pybuild(root)("doctor", code=None)
    assert f"belongs to uid {STRANGER}" in done.out
    assert planting.state(root) == before


@pytest.mark.slow
def test_a_memo_of_a_stranger_answers_no_build(tmp_path: Path) -> None:
    """The fully cached path opens no store, and believes no more than who does."""
    pybuild = Pybuild(tmp_path / "store")
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    pybuild("build", "-q", context)
    planting.give_away(pybuild.store)
    assert "belongs to uid" in pybuild("build", "-q", context, code=3).err


# --- who can read it ----------------------------------------------------------------------------


def readable(store: Path) -> list[str]:
    """Return what a stranger can list or read of a store."""
    program = "import os, sys\nfor top, names, files in os.walk(sys.argv[1]): print(top, *files)\n"
    done = subprocess.run(
        ["python3", "-I", "-c", program, store],
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def reachable(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o775, 0o711])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "a store"])
def test_a_store_made_wider_beforehand_is_closed(tmp_path: Path, mode: int, full: bool) -> None:
    reachable(tmp_path)
    root = tmp_path / "store"
    if full:
        sweep(root)
    else:
        root.mkdir()
    root.chmod(mode)
    sweep(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert readable(root) == []


def test_a_directory_of_something_else_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    tmp_path.chmod(0o755)
    refused_as = "is not a pybuild store"
    with pytest.raises(EnvironmentFault, match=refused_as):
        Store.open(tmp_path, SystemClock())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.slow
@pytest.mark.sandbox
def test_an_open_umask_opens_nothing(tmp_path: Path) -> None:
    """Not the store, nor what stands above it, nor layers, logs and builds in it."""
    reachable(tmp_path)
    pybuild = Pybuild(tmp_path / "deep" / "er" / "store")
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    before = os.umask(0)
    try:
        pybuild("build", "-t", "app", context)
        pybuild("build", "-t", "app", context)
    finally:
        os.umask(before)
    store = pybuild.store
    for above in (store.parent, store.parent.parent):
        assert not above.stat().st_mode & 0o022
    assert readable(store) == []
    for path in [store, *store.rglob("*")]:
        if path.relative_to(store).parts[:1] != ("snapshots",) and not path.is_symlink():
            assert not (path.is_dir() and path.stat().st_mode & 0o022), path


def test_another_user_is_refused_roots_store(tmp_path: Path, root: Path) -> None:
    reachable(tmp_path)
    root.chmod(0o755)  # as before we closed them
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            Store.open(root, SystemClock(), to_read=True).close()
            sweep(root)
        except EnvironmentFault as error:
            code = 0 if "it belongs to uid 0 (root)" in error.message else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- what comes between a look and the making -----------------------------------------------------


@pytest.mark.parametrize("is_file", [False, True])
def test_who_is_on_an_access_control_list_is_one_of_the_others(
    tmp_path: Path, is_file: bool
) -> None:
    """The mode shows the list as the group's, which is root's own."""
    place = tmp_path / "place"
    if is_file:
        place.write_text("")
    else:
        place.mkdir()
    # Owner, the user 65534, group, mask, others: tag, permissions, id.
    entries = ((1, 7, -1), (2, 7, STRANGER), (4, 5, -1), (16, 7, -1), (32, 5, -1))
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(place, "system.posix_acl_access", access)
    except OSError:
        pytest.skip("the file system has no access control lists")
    if is_file:
        assert "can be changed by others" in doubt_of_file(str(place))
    else:
        assert "access control list" in doubt(str(place / "store")).text
    os.chmod(place, 0o755)  # which takes the list's right to write
    assert not (doubt_of_file(str(place)) if is_file else doubt(str(place / "store")))


@pytest.mark.parametrize(
    ("ranges", "trusted"),
    [
        ("0 0 4294967295", False),
        ("0 1000 1", True),
        ("0 1000 1\n1 100000 65536", False),
        ("0 100000 65536", False),
        ("0 100000 65534", True),
    ],
)
def test_nobody_is_trusted_only_where_it_stands_for_ids_that_are_not_known(
    monkeypatch: pytest.MonkeyPatch, ranges: str, trusted: bool
) -> None:
    files = {"/proc/sys/kernel/overflowuid": "65534\n", "/proc/self/uid_map": ranges + "\n"}

    def opened(path: str, *, encoding: str) -> io.StringIO:
        return io.StringIO(files[path])

    monkeypatch.setattr("builtins.open", opened)
    assert is_trusted(65534) is trusted


class Raced(Disk):
    """Somebody else is faster once: *act* comes before the first directory is made."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._left = [act]

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        if self._left:
            self._left.pop()()
        super().mkdir(path, mode)


@pytest.mark.parametrize("above", ["", "above"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_store_that_somebody_else_makes_first_is_not_used(
    tmp_path: Path, above: str, linked: bool
) -> None:
    place = tmp_path / "everybodys"
    place.mkdir()
    place.chmod(0o1777)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = place / above / "store"

    def make() -> None:
        first = place / (above or "store")
        if (
            first.exists()
        ):  # made by us; others cannot take that away, so this one is as if they had
            os.rmdir(first)
        if linked:
            first.symlink_to(elsewhere)
        else:
            first.mkdir()
        os.chown(first, STRANGER, STRANGER, follow_symlinks=False)

    with pytest.raises(EnvironmentFault) as caught:
        Store.open(root, SystemClock(), disk=Raced(make))
    assert f"uid {STRANGER}" in caught.value.message
    assert not list(elsewhere.rglob("store.json"))
    assert not list(place.rglob("store.json"))


@pytest.mark.parametrize("how", ["theirs", "their group's", "below theirs", "a link of theirs"])
def test_a_server_listens_nowhere_where_others_could_take_its_place(
    tmp_path: Path, how: str
) -> None:
    """A client that connects to a planted server hands it contexts, secrets and logins."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, 0, STRANGER)
    path = folder / "sock"
    if how == "their group's":
        folder.chmod(0o770)
    elif how == "a link of theirs":
        (tmp_path / "mine").mkdir()
        (folder / "in").symlink_to(tmp_path / "mine")
        os.chown(folder / "in", STRANGER, STRANGER, follow_symlinks=False)
        path = folder / "in/sock"
    else:
        os.chown(folder, STRANGER, STRANGER)
        path = folder / "mine/sock" if how == "below theirs" else path
    with pytest.raises(UsageError, match="another socket in its place") as caught:
        unix_socket(str(path))
    assert caught.value.hints
    assert not list(tmp_path.rglob("sock"))


def test_a_server_listens_in_a_directory_for_everybody_with_a_sticky_bit(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    unix_socket(str(tmp_path / "sock")).close()
