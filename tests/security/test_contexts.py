"""Contexts that lead their build to files of the host, or make it wait: every file read by name.

An attempt is a way to read (the place that is planted, and who reads it) and what is planted there.
Each must end at once with an error that names the place and the way out and shows nothing else.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

from pybuild.buildkit.policyfile import read_policy_file
from pybuild.builds import memo
from pybuild.builds.contexts import load_inputs
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_secret
from pybuild.builds.standardinput import StandardInput
from pybuild.client.inputs import gather
from pybuild.daemon.builds.trees import read_all
from pybuild.executor.trees.local import LocalDigester
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree
from pybuild.model.span import Span
from pybuild.progress.render import text as rendered
from pybuild.remotecache import branches
from tests.harness import Pybuild

CANARY = "machine ci.example login canary-of-the-host-5d7e"
_STUCK_S = 60


@dataclass(frozen=True)
class Host:
    """The host beside a context that is not to be trusted.

    Attributes:
        context: whose author planted what is read.
        secret: a file of the host.
    """

    context: Path
    secret: Path
    scratch: Path


@dataclass(frozen=True)
class Way:
    """A file that a build reads by name."""

    name: str
    place: str
    read: Callable[[Host], object]


@contextmanager
def not_for_ever() -> Generator[None]:
    """End what would wait for ever for who never writes."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_STUCK_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _local(host: Host, file: str = "", **named: str) -> object:
    given = str(host.context / file) if file else ""
    request = BuildRequest(context=str(host.context), dockerfile=given, named_contexts=named)
    return load_inputs(request, StandardInput())


def _sent(host: Host, file: str = "") -> object:
    given = str(host.context / file) if file else ""
    request = BuildRequest(context=str(host.context), dockerfile=given)
    return gather(request, StandardInput(), str(host.scratch))


def _received(host: Host) -> object:
    return read_all(str(host.context), ["Dockerfile"], 64 << 20)


WAYS = (
    Way("the Dockerfile", "Dockerfile", _local),
    Way("the Dockerfile by -f", "ci/Dockerfile", lambda host: _local(host, "ci/Dockerfile")),
    Way("a Containerfile by -f", "Containerfile", lambda host: _local(host, "Containerfile")),
    Way("the Dockerfile in lower case", "dockerfile", _local),
    Way("the ignore file", ".dockerignore", _local),
    Way("the Dockerfile's own ignore file", "Dockerfile.dockerignore", _local),
    Way("the ignore file of a named context", "other/.dockerignore", lambda host: _named(host)),
    Way("the Dockerfile for a server", "Dockerfile", _sent),
    Way("a Dockerfile for a server by -f", "ci/Dockerfile", lambda h: _sent(h, "ci/Dockerfile")),
    Way("an ignore file for a server", "Dockerfile.dockerignore", _sent),
)


def _named(host: Host) -> object:
    return _local(host, other=str(host.context / "other"))


def _link(target: str) -> Callable[[Host, Path], None]:
    return lambda host, place: place.symlink_to(target.format(host=host))


def _up(host: Host, place: Path) -> None:
    place.symlink_to(os.path.relpath(host.secret, place.parent))


def _far_up(host: Host, place: Path) -> None:
    place.symlink_to("../" * 40 + str(host.secret).lstrip("/"))


def _chain(host: Host, place: Path) -> None:
    (host.context / "first").symlink_to("second")
    (host.context / "second").symlink_to(host.secret)
    place.symlink_to(os.path.relpath(host.context / "first", place.parent))


def _through_a_directory(host: Host, place: Path) -> None:
    (host.context / "way").symlink_to(host.secret.parent)
    place.symlink_to(os.path.relpath(host.context / "way" / host.secret.name, place.parent))


def _loop(_host: Host, place: Path) -> None:
    place.symlink_to(place.name)


def _pipe(_host: Host, place: Path) -> None:
    os.mkfifo(place)


def _linked_pipe(host: Host, place: Path) -> None:
    os.mkfifo(host.context / "pipe")
    place.symlink_to(os.path.relpath(host.context / "pipe", place.parent))


def _socket(_host: Host, place: Path) -> None:
    here = os.open(place.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/{place.name}")
    os.close(here)


def _device(_host: Host, place: Path) -> None:
    try:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


def _huge(_host: Host, place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(1 << 40)


PLANTED: dict[str, Callable[[Host, Path], None]] = {
    "an absolute link": _link("{host.secret}"),
    "a link upwards": _up,
    "a link far above the root": _far_up,
    "a chain of links": _chain,
    "a link through a linked directory": _through_a_directory,
    "a link to our environment": _link("/proc/self/environ"),
    "a link to our root": _link("/proc/self/root{host.secret}"),
    "a link to our directory": _link("/proc/self/cwd"),
    "a link to our descriptors": _link("/dev/fd/0"),
    "a link to a device": _link("/dev/zero"),
    "a link to itself": _loop,
    "a pipe": _pipe,
    "a link to a pipe": _linked_pipe,
    "a socket": _socket,
    "a device": _device,
    "a directory": lambda _host, place: place.mkdir(),
    "a file without end": _huge,
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in ("context/ci", "context/other", "home", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home/.netrc").write_text(CANARY)
    return Host(tmp_path / "context", tmp_path / "home/.netrc", tmp_path / "scratch")


def _is_refused(read: Callable[[], object], place: str) -> None:
    with not_for_ever(), pytest.raises(PybuildError) as raised:
        read()
    shown = rendered(raised.value).splitlines()
    assert shown[0].startswith("error: failed to read ") and Path(place).name in shown[0]
    assert "canary" not in "".join(shown)
    assert shown[1].startswith("hint: ")


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_planted_file_is_refused(way: Way, planted: str, host: Host) -> None:
    if way.place.endswith("ignore"):
        (host.context / "Dockerfile").write_text("FROM scratch\n")
    PLANTED[planted](host, host.context / way.place)
    _is_refused(lambda: way.read(host), way.place)


@pytest.mark.parametrize("read", [_local, _sent], ids=["here", "for a server"])
@pytest.mark.parametrize("ci", ["{host.secret.parent}", "../home", "around"])
def test_a_directory_that_leads_out_is_refused(
    read: Callable[[Host, str], object], ci: str, host: Host
) -> None:
    (host.secret.parent / "Dockerfile").write_text(f"RUN {CANARY}\n")
    (host.context / "around").symlink_to(host.secret.parent)
    (host.context / "linked").symlink_to(ci.format(host=host))
    _is_refused(lambda: read(host, "linked/Dockerfile"), "linked/Dockerfile")


@pytest.mark.parametrize("planted", ["a pipe", "a link to a pipe", "a socket", "a directory"])
def test_a_server_refuses_what_a_client_planted(planted: str, host: Host) -> None:
    PLANTED[planted](host, host.context / "Dockerfile")
    with not_for_ever(), pytest.raises(UserError, match="not a regular file"):
        _received(host)


def test_links_inside_the_context_are_followed(host: Host) -> None:
    context = host.context
    (context / "ci/Real").write_text("FROM scratch\n")
    (context / "Dockerfile").symlink_to("ci/Real")
    (context / "ci/ignored").write_text("*.log\n")
    (context / ".dockerignore").symlink_to("/ci/ignored")  # the context is its root
    found = load_inputs(BuildRequest(context=str(context)), StandardInput())
    assert found.dockerfile == b"FROM scratch\n"
    assert found.trees["context"].exclude == ("*.log",)
    sent = gather(BuildRequest(context=str(context)), StandardInput(), str(host.scratch))
    folder = Path(sent.directories["dockerfile"])
    assert folder.is_relative_to(host.scratch)
    assert (folder / "Dockerfile").read_bytes() == b"FROM scratch\n"


def test_a_file_that_the_user_names_elsewhere_is_the_users_own_word(host: Host) -> None:
    (host.scratch / "Real").write_text("FROM scratch\n")
    named = host.scratch / "Linked"
    named.symlink_to("Real")
    request = BuildRequest(context=str(host.context), dockerfile=str(named))
    assert load_inputs(request, StandardInput()).dockerfile == b"FROM scratch\n"


@pytest.mark.parametrize("planted", ["a pipe", "a socket", "a device", "a directory"])
def test_what_the_user_names_is_not_waited_for_either(planted: str, host: Host) -> None:
    named = host.scratch / "Named"
    PLANTED[planted](host, named)
    request = BuildRequest(context=str(host.context), dockerfile=str(named))
    if planted != "a pipe":  # which is read as a Dockerfile: ``-f <(…)``
        _is_refused(lambda: load_inputs(request, StandardInput()), "Named")
    with not_for_ever():
        with pytest.raises(PybuildError):
            read_policy_file(str(named))
        with pytest.raises(PybuildError):
            parse_secret(f"id=a,src={named}")


def test_a_secret_that_became_a_pipe_is_not_waited_for(host: Host) -> None:
    secret = parse_secret(f"id=a,src={host.secret}")
    host.secret.unlink()
    os.mkfifo(host.secret)
    with not_for_ever(), pytest.raises(OSError, match="not a regular file"):
        secret.read()


def test_pipes_keep_neither_memos_nor_branches_waiting(host: Host) -> None:
    for name in ("Dockerfile", ".git"):
        os.mkfifo(host.context / name)
    with not_for_ever():
        kept = {"store": memo.file_digest(None), "files": [[str(host.context / "Dockerfile"), "x"]]}
        assert not memo.holds(kept, str(host.scratch))
        assert branches.cache_tags(str(host.context), {}) == branches.cache_tags("/", {})


def test_a_hint_reads_no_ignore_file_outside(host: Host) -> None:
    (host.context / ".dockerignore").symlink_to(host.secret)
    (host.context / "hidden").write_text("x")
    tree = LocalTree(str(host.context), exclude=(CANARY, "hidden"))
    with pytest.raises(UserError) as raised:
        LocalDigester(str(host.scratch)).digest(tree, Selection(path="/hidden"))
    assert 'the ignore file\'s "hidden"' in raised.value.message


def test_an_error_shows_no_file_that_somebody_else_names(host: Host) -> None:
    error = UserError("a server says so", spans=[Span(str(host.secret), 1, 1)])
    assert "canary" not in rendered(error)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["build"], ["build", "--check"], ["lint"], ["verify"]])
def test_commands_show_nothing_of_it(command: list[str], host: Host) -> None:
    (host.context / "Dockerfile").symlink_to(host.secret)
    done = Pybuild(host.scratch / "store")(*command, host.context, code=None, timeout=60)
    assert done.code == 1 and "canary" not in done.out + done.err
    assert "a link to nothing inside the context\nhint: links are followed inside" in done.err
