"""Commands of an engine elsewhere, done by one that serves Docker's API here [ENG-10, ENG-30, CTR-60]."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.docker.commands import Acted, Described, Listed, ToPrune, outcome
from pybuild.client.docker.requests import Requests
from pybuild.commandline import find
from pybuild.commandline.parser import HOST, TLS, parse
from pybuild.model.errors import PybuildError, UserError
from tests.containers.busyboxes import BusyboxContainers
from tests.daemon.restengines import rest_engine

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

Far = Callable[..., Any]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[tuple[Requests, BusyboxContainers]]:
    with rest_engine(tmp_path) as made:
        yield made


@pytest.fixture
def far(engine: tuple[Requests, BusyboxContainers]) -> Far:
    """A function that does a command and returns what it shows, or its exit code."""

    def do(name: str, *words: str) -> Any:
        known = find(name)
        assert known is not None
        parsed = parse(["-H", engine[0].place.url, *words], (*known.options, HOST, *TLS))
        done = outcome(parsed, name)
        match done:
            case Acted():
                return [done.act(one) for one in parsed.positionals]
            case Described():
                return [done.look(one) for one in parsed.positionals]
            case Listed():
                return list(done.rows)
            case ToPrune():
                return done.work()
            case _:
                return done

    return do


def test_a_container_is_made_followed_and_removed(
    engine: tuple[Requests, BusyboxContainers],
    far: Far,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    requests, containers = engine
    containers.make("", "seed")
    requests.ask("POST", "/commit", {"container": "seed", "repo": "base", "tag": "1"}, {})
    assert far("rm", "seed") == [None]
    (image,) = far("images")
    assert (image["Repository"], image["Tag"]) == ("base", "1")
    assert far("images", "--digests", "nothing") == []
    place = tmp_path / "id"
    script = "echo out; echo err >&2; cat; exit 7"
    words = ["--cidfile", str(place), "--network", "none", "-v", "vol:/d", "--name", "one"]
    words.append("base:1")
    assert far("run", *words[:-1], "--", "base:1", "sh", "-c", script) == 7
    assert capfd.readouterr() == ("out\n", "err\n")
    (row,) = far("ps", "-a", "--no-trunc")
    assert (row["ID"], row["Names"], row["State"]) == (place.read_text(), "one", "exited")
    assert (row["LocalVolumes"], row["Mounts"], row["Networks"]) == ("1", "vol", "none")
    assert row["Command"].startswith('"sh -c ') and row["Image"] == "base:1"
    assert far("ps") == []
    assert far("logs", "one") == 0
    assert capfd.readouterr() == ("out\n", "err\n")
    with pytest.raises(UserError, match="container ID file found"):
        far("create", *words)
    assert far("wait", "one") == ["7"]
    assert far("rename", "one", "two") == 0
    (shown,) = far("inspect", "two")
    assert (shown["Name"], shown["State"]["ExitCode"]) == ("/two", 7)
    with pytest.raises(UserError, match="is not running"):
        far("attach", "two")
    assert far("container prune")[0] == [row["ID"]]
    with pytest.raises(PybuildError, match="(?i)no such container"):
        far("inspect", "--type", "container", "two")
    with pytest.raises(UserError, match="no such object: two"):
        far("inspect", "two")
    assert far("rm", "-f", "two") == [False]
    assert far("rmi", "base:1") != [False]
    assert far("rmi", "-f", "base:1") == [False]
    with pytest.raises(PybuildError, match="(?i)no such image"):
        far("run", "--pull", "never", "base:1")


def test_one_that_runs_is_entered_looked_at_and_ended(
    engine: tuple[Requests, BusyboxContainers],
    far: Far,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, containers = engine
    containers.make("trap 'exit 3' TERM; while :; do sleep 0.01; done", "one")
    assert far("start", "one") == [None]
    assert (
        far(
            "exec",
            "-e",
            "B=c",
            "-w",
            "/etc",
            "--",
            "one",
            "sh",
            "-c",
            "echo $B; pwd; echo e >&2; exit 5",
        )
        == 5
    )
    assert capfd.readouterr() == ("c\n/etc\n", "e\n")
    assert far("exec", "one", "nothing-such") == 127
    assert "nothing-such" in capfd.readouterr().out
    assert far("exec", "-d", "one", "true") == 0
    (tmp_path / "in").write_text("text")
    assert far("cp", str(tmp_path / "in"), "one:/in") == 0
    assert far("cp", "one:/in", str(tmp_path / "out")) == 0
    assert (tmp_path / "out").read_text() == "text"
    with pytest.raises(PybuildError, match="one of the two must be in a container"):
        far("cp", "a", "b")
    assert "A /in\n" in far("diff", "one")
    assert "sh -c trap" in far("top", "--", "one", "-o", "pid,args")
    assert far("port", "one") == ""
    with pytest.raises(UserError, match="no public port '80'"):
        far("port", "one", "80")
    assert far("pause", "one") == [None]
    assert far("ps")[0]["Status"].endswith("(Paused)")
    assert far("unpause", "one") == [None]
    assert far("update", "--restart", "no", "one") == [None]
    assert far("stop", "--timeout", "60", "one") == [None]
    assert far("wait", "one") == ["3"]
    assert far("start", "one") == [None]
    assert far("kill", "one") == [None]
    assert far("wait", "one") == ["137"]


def test_networks_and_volumes_are_made_and_removed(far: Far) -> None:
    assert far("volume create", "--label", "a=b", "vol") == "vol\n"
    (row,) = far("volume ls")
    assert (row["Name"], row["Driver"], row["Labels"]) == ("vol", "local", "a=b")
    (shown,) = far("volume inspect", "vol")
    assert shown["Labels"] == {"a": "b"}
    assert far("volume prune", "-a")[0] == ["vol"]
    assert len(far("network create", "--subnet", "10.98.0.0/24", "net")) == 65
    assert [one["Name"] for one in far("network ls", "--filter", "name=net")] == ["net"]
    (shown,) = far("network inspect", "net")
    assert shown["IPAM"]["Config"][0]["Subnet"] == "10.98.0.0/24"
    assert far("network prune")[0] == ["net"]
