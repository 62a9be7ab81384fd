"""Ways of the engine that few commands take: a root by file, proxies of docker's file, limits and signals, a registry."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.engine.dockerconfig import proxy_arguments
from pybuild.engine.interruptible import raise_file_limit, run_interruptible
from pybuild.engine.paths import root_by_file
from pybuild.engine.registryserver import serve
from pybuild.engine.servesettings import Serving
from pybuild.engine.settings import Settings
from pybuild.model.errors import Cancelled, EnvironmentFault
from pybuild.registry.server.settings import RegistrySettings
from tests.clocks import FakeClock


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PYBUILD_ROOT", "PYBUILD_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_root_is_that_of_the_file_where_none_is_given(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('root = "/by/../file"\n')
    file.chmod(0o600)
    assert root_by_file("/given/../here", str(file)) == "/here"
    assert root_by_file("", str(file)) == "/file"
    file.write_text("root = 1\n")
    assert root_by_file("", str(file)) is None
    file.write_text("root = [\n")
    assert root_by_file("", str(file)) is None
    file.write_text('other = "x"\n')
    usual = root_by_file("", "")
    assert usual and root_by_file("", str(file)) == usual
    file.write_text('root = "/file"\n')
    file.chmod(0o666)
    assert root_by_file("", str(file)) is None  # anybody may have written it
    assert root_by_file("", str(tmp_path / "absent")) is None


def test_proxies_of_dockers_file_are_build_arguments_in_both_cases(tmp_path: Path) -> None:
    file = tmp_path / ".docker/config.json"
    file.parent.mkdir()
    home = {"HOME": str(tmp_path)}
    assert proxy_arguments({}) == {}
    assert proxy_arguments(home) == {}
    default = {"httpProxy": "http://p", "noProxy": "a,b", "ftpProxy": "", "allProxy": 1}
    file.write_text(json.dumps({"proxies": {"default": default, "other": {"httpsProxy": "x"}}}))
    file.chmod(0o600)
    expected = {
        "HTTP_PROXY": "http://p",
        "http_proxy": "http://p",
        "NO_PROXY": "a,b",
        "no_proxy": "a,b",
    }
    assert proxy_arguments(home) == expected
    assert proxy_arguments({"HOME": "/absent", "DOCKER_CONFIG": str(file.parent)}) == expected
    file.chmod(0o666)
    assert proxy_arguments(home) == {}
    file.chmod(0o600)
    for text in ("{", "[]", "[" * 100_000, '{"proxies": []}'):
        file.write_text(text)
        assert proxy_arguments(home) == {}


@pytest.mark.parametrize("count", [1, 2])
def test_work_ends_by_the_first_signal_and_handlers_are_as_before(count: int) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    undone: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            if count > 1:
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.01)
            undone.append("all")

    with pytest.raises(Cancelled, match="context canceled") as caught:
        run_interruptible(work())
    assert caught.value.exit_code == 128 + signal.SIGTERM and undone == ["all"]
    after = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_work_that_ends_by_itself_returns_or_is_cancelled() -> None:
    async def work() -> int:
        return 7

    async def cancelled() -> None:
        raise asyncio.CancelledError

    assert run_interruptible(work()) == 7
    with pytest.raises(Cancelled) as caught:
        run_interruptible(cancelled())
    assert caught.value.exit_code == 130


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def work() -> str:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)
            return "done"

        assert run_interruptible(work()) == "done"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (64, 4096, None),
        (63, 4096, (1024, 4096)),
        (63, 100, (100, 100)),
        (63, 64, (64, 64)),
        (63, -1, (1024, -1)),
        (-1, -1, None),
    ],
)
def test_few_files_are_made_more(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: tuple[int, int] | None
) -> None:
    limits: list[tuple[int, int]] = []

    def set_limit(which: int, pair: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        limits.append(pair)

    def limit(which: int) -> tuple[int, int]:
        return soft, hard

    def most(name: str) -> int:
        return soft

    monkeypatch.setattr(os, "sysconf", most)
    monkeypatch.setattr(resource, "getrlimit", limit)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    raise_file_limit()
    assert limits == ([raised] if raised else [])


def test_too_few_files_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(which: int) -> tuple[int, int]:
        return 10, 63

    def most(name: str) -> int:
        return 10

    monkeypatch.setattr(os, "sysconf", most)
    monkeypatch.setattr(resource, "getrlimit", limit)
    with pytest.raises(EnvironmentFault, match="at most 63 files may be open: 64 are the least"):
        raise_file_limit()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_is_served_until_a_signal_and_an_open_one_is_warned_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], read_only: bool
) -> None:
    settings = Settings(root=str(tmp_path / "store"), network="isolated")
    server = RegistrySettings(read_only=read_only)
    serving = Serving(addresses=("127.0.0.1:0",), server=server)

    async def work() -> str:
        with Store.open(settings.root, FakeClock()) as store:
            task = asyncio.create_task(serve(store, serving, settings))
            lines = ""
            async with asyncio.timeout(60):
                while "serving" not in lines and not task.done():
                    await asyncio.sleep(0.002)
                    lines += capfd.readouterr().err
                os.kill(os.getpid(), signal.SIGTERM)
                await task
        return lines + capfd.readouterr().err

    lines = asyncio.run(work()).splitlines()
    assert lines[0].startswith(f"registry: serving {settings.root} on 127.0.0.1:")
    assert lines[-1] == "registry: stopping"
    warned = [line for line in lines if line.startswith("warning: anybody who reaches")]
    assert len(warned) == (0 if read_only else 1)
    assert all(line.endswith("may push and delete; see --htpasswd") for line in warned)
