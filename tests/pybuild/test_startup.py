"""Modules that a build imports before it knows what it is going to do: each is paid by every build."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.harness import ROOT, Pybuild, make_base, write

# Each of them takes a millisecond or more, and is for builds that ask for something rare.
RARE = (
    *("aiohttp", "aiobotocore", "bz2", "csv", "datetime", "decimal", "difflib", "email", "lark"),
    *("lzma", "networkx", "shutil", "tempfile", "tomllib", "zstandard", "pybuild.daemon"),
    *(
        "pybuild.executor.sources.git",
        "pybuild.executor.sources.http",
        "pybuild.registry.client.client",
    ),
)


def test_a_build_imports_nothing_that_is_for_rare_ones() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "import pybuild.commands.build, pybuild.builds.localbuilder, pybuild.builds.localbuild\n"
        f"print(*sorted(set({RARE!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


# What a client does not do: nothing of it is for a build that a server makes.
MOST_MODULES_OF_CLIENT = 400
NOT_OF_CLIENTS = (
    *("aiohttp", "csv", "httptools", "multidict", "networkx", "sqlite3", "yarl"),
    *("pybuild.buildkit.fsutil.writer", "pybuild.cache.records", "pybuild.cache.space"),
    *("pybuild.cache.store", "pybuild.client.content", "pybuild.client.disk"),
    *("pybuild.client.history", "pybuild.engine.engine", "pybuild.executor.runner"),
    *("pybuild.executor.sources", "pybuild.executor.workers", "pybuild.explain"),
    *("pybuild.exporter.attest", "pybuild.exporter.export", "pybuild.frontend.lint"),
    *("pybuild.image.archive", "pybuild.net.http1.client", "pybuild.remotecache.places"),
    *("pybuild.solver",),
)


def test_a_build_by_a_server_loads_no_engine() -> None:  # issue 21, 0
    """Nor what is for outputs, caches and agents that it does not have."""
    program = (
        "import sys; before = set(sys.modules)\n"
        "import pybuild.commands.build, pybuild.client.remotebuilder, pybuild.client.build\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.split()
    assert [one for one in loaded if one.startswith(NOT_OF_CLIENTS)] == []
    assert len(loaded) <= MOST_MODULES_OF_CLIENT, sorted(loaded)


# A third of them is what any program with uvloop, asyncio and SQLite imports.
MOST_MODULES = 459


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_build_imports_only_so_many_modules(pybuild: Pybuild, tmp_path: Path) -> None:
    """Of what is installed and of ours together, none of it for outputs, sources or rules that it does not have."""
    make_base(pybuild, tmp_path / "base", "base")
    text = "FROM base\nARG V=1\nENV A=$V\nWORKDIR /w\nCOPY a .\nRUN cat a\n"
    context = write(tmp_path / "ctx", Dockerfile=text, a="x")
    program = (
        f"import json, sys; sys.path += {[str(ROOT), sysconfig.get_path('purelib')]!r}\n"
        "from pybuild.cli import main\n"
        f"status = main(['build', '--no-cache', '-t', 'app', {str(context)!r}])\n"
        "print(json.dumps([status, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        env=pybuild.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    status, modules = json.loads(done.stdout)
    assert status == 0
    assert len(modules) <= MOST_MODULES, modules
    seldom = (
        "pybuild.registry",
        "pybuild.net.",
        "pybuild.cache.space",
        "pybuild.executor.sources.",
    )
    assert [name for name in modules if name.startswith(seldom)] == [
        "pybuild.executor.sources.remote"
    ]


@pytest.mark.parametrize(
    "words",
    ["ps", "exec x true", "logs x", "stop x", "kill x", "wait x", "rm x", "start x", "top x"],
)
def test_commands_about_containers_load_no_engine(words: str, tmp_path: Path) -> None:
    """Nor the event loop that it needs: what they do is files, and a line to a monitor."""
    program = (
        "import sys\nfrom pybuild.cli import main\n"
        f"main(['--root', {str(tmp_path / 'store')!r}, *{words.split()!r}])\n"
        "print(*sorted({'asyncio', 'pybuild.engine.engine'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == ""


# What a command about containers does without: each takes as long to load as the command may take.
SLOW = (
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "json",
    "re",
    "signal",
    "socket",
    "typing",
)


def test_ps_exec_and_what_ends_containers_load_no_slow_module_of_the_standard_library() -> None:
    program = (
        f"import sys; sys.path += [{str(ROOT)!r}]\n"
        "import pybuild.cli, pybuild.engine.interruptible, pybuild.commandline.containers\n"
        "import pybuild.commands.ps, pybuild.commands.executing, pybuild.commands.containers\n"
        "import pybuild.containers.signals\n"
        f"print(*sorted(set({SLOW!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == []


# What `exec` loads to have a monitor execute something: it knows no record, no network and no error.
OURS_OF_EXEC = {
    *("pybuild", "pybuild.cli", "pybuild.commandline", "pybuild.commandline.containers"),
    *("pybuild.commandline.parser", "pybuild.commands", "pybuild.commands.executing"),
    *("pybuild.cache", "pybuild.cache.disk", "pybuild.cache.disk.ownership", "pybuild.containers"),
    *("pybuild.containers.attaching", "pybuild.containers.directexec", "pybuild.containers.lines"),
    *("pybuild.engine", "pybuild.engine.interruptible", "pybuild.engine.paths", "pybuild.model"),
    *("pybuild.model.lightlib", "pybuild.model.options", "pybuild.model.package"),
}
_OF_OUTPUT = {"pybuild.image", "pybuild.image.layer", "pybuild.image.layer.writing"}


@pytest.mark.sandbox
@pytest.mark.slow
def test_exec_loads_what_speaks_to_a_monitor_and_no_more(
    pybuild: Pybuild, tmp_path: Path
) -> None:  # issue 16, Show 5
    make_base(pybuild, tmp_path / "base", "base")
    pybuild("run", "-d", "--name", "one", "--network", "none", "base", "sleep", "1000")
    program = (
        f"import sys; sys.path += [{str(ROOT)!r}]\n"
        "from pybuild import cli\n"
        "sys.argv = ['pybuild', 'exec', 'one', 'sh', '-c', 'echo said; exit 7']\n"
        "status = cli._main(None)\n"  # as main, which would end the process
        "print(status, *sorted(sys.modules))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program],
            env=pybuild.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    finally:
        pybuild("rm", "-f", "one")
    said, rest = done.stdout.splitlines()
    status, *modules = rest.split()
    assert (said, status) == ("said", "7")
    assert {one for one in modules if one.startswith("pybuild")} == OURS_OF_EXEC | _OF_OUTPUT
    assert {"fcntl", "importlib", "resource", "termios", "warnings", *SLOW}.isdisjoint(modules)


# Beside those of `SLOW` that images are read with: what a container of an image that is here goes without.
NEEDLESS = (
    *("asyncio", "contextlib", "copy", "ctypes", "datetime", "hashlib", "inspect"),
    *("ipaddress", "json", "random", "re", "shutil", "socket", "sqlite3", "subprocess"),
    *("threading", "typing", "uvloop", "weakref"),
    *("pybuild.engine.engine", "pybuild.engine.settings", "pybuild.executor.workers.workers"),
    *("pybuild.frontend", "pybuild.model.ops", "pybuild.net", "pybuild.registry"),
    *("pybuild.volumes.volumes", "pybuild.volumes.provision"),
)
MOST_MODULES_OF_RUN = 170


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_container_of_an_image_that_is_here_is_run_without_an_engine(
    pybuild: Pybuild, tmp_path: Path
) -> None:  # issue 16, Show 5
    make_base(pybuild, tmp_path / "base", "base")
    other = ("--name", "other", "--network", "none", "base", "sleep", "1000")
    pybuild("run", "-d", *other)  # the spawner is there
    program = (
        f"import sys; sys.path += {[str(ROOT), sysconfig.get_path('purelib')]!r}\n"
        "from pybuild.cli import main\n"
        "status = main(['run', '--rm', '--network=none', 'base', 'sh', '-c', 'echo said; exit 7'])\n"
        "modules = sorted(sys.modules)\n"
        "import json; print(json.dumps([status, modules]))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program],
            env=pybuild.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        said, rest = done.stdout.split("\n", 1)
        status, modules = json.loads(rest)
        assert (said, status) == ("said", 7)
        assert sorted(set(NEEDLESS) & set(modules)) == []
        assert len(modules) <= MOST_MODULES_OF_RUN, modules
        assert pybuild("ps", "-aq").out.count("\n") == 1
    finally:
        pybuild("rm", "-f", "other")


MOST_MODULES_OF_DAEMON = 518
_PING_AND_END = """
import json, os, signal, socket, sys, threading, time

def ping(path):
    while True:
        try:
            own = socket.socket(socket.AF_UNIX)
            own.connect(path)
            break
        except OSError:
            time.sleep(0.01)
    own.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    said = own.recv(100)
    print(json.dumps([said.split(b"\\r")[0].decode(), sorted(sys.modules)]), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_a_daemon_is_ready_before_it_has_loaded_what_builds_need(tmp_path: Path) -> None:
    """issue 17, Show 6: half of what a daemon could load is for builds, and comes with the first one."""
    docker, builds = tmp_path / "docker", f"unix://{tmp_path / 'builds'}"
    words = ["--root", str(tmp_path / "store"), "daemon", "--addr", builds]
    program = (
        f"import sys; sys.path += {[str(ROOT), sysconfig.get_path('purelib')]!r}\n{_PING_AND_END}"
        f"threading.Thread(target=ping, args=({str(docker)!r},), daemon=True).start()\n"
        "from pybuild.cli import main\n"
        f"sys.exit(main({[*words, '--docker-socket', str(docker)]!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said, modules = json.loads(done.stdout)
    assert said == "HTTP/1.1 200 OK"
    seldom = (
        *("google", "hpack", "lark", "networkx", "yaml", "zstandard"),
        *("pybuild.bake", "pybuild.buildkit", "pybuild.builds", "pybuild.daemon.builds."),
        *("pybuild.daemon.frontend", "pybuild.daemon.session", "pybuild.explain"),
        *("pybuild.exporter", "pybuild.frontend.syntax", "pybuild.net.grpc", "pybuild.net.http2"),
        *("pybuild.registry.client", "pybuild.remotecache"),
    )
    assert [name for name in modules if name.startswith(seldom)] == []
    assert len(modules) <= MOST_MODULES_OF_DAEMON, modules
