"""Commands about containers as the command line does them, in this process [CTR-30, CTR-39, CTR-76, ENG-34]."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from pybuild.cli import main
from tests.containers.busyboxes import BusyboxContainers, busybox_containers

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

Do = Callable[..., tuple[int, str, str]]


@pytest.fixture
def containers(tmp_path: Path) -> Generator[BusyboxContainers]:
    with busybox_containers(tmp_path / "store") as made:
        yield made


@pytest.fixture
def do(
    containers: BusyboxContainers,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Do:
    """A function that does a command and returns its exit code and what it wrote."""
    monkeypatch.setenv("PYBUILD_ROOT", containers.root)

    def done(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, err = capfd.readouterr()
        return code, out, err

    return done


def test_one_is_run_listed_described_and_removed(containers: BusyboxContainers, do: Do) -> None:
    containers.make("", "seed")
    assert do("commit", "seed", "base")[0] == 0
    assert do("rm", "seed") == (0, "seed\n", "")
    script = "echo out; echo err >&2; echo x > /f; exit 7"
    assert do("run", "--name", "one", "--network", "none", "base", "sh", "-c", script) == (
        7,
        "out\n",
        "err\n",
    )
    code, out, _ = do("ps", "-a", "--format", "{{.Names}} {{.State}} {{.Image}}")
    assert (code, out) == (0, "one exited base\n")
    assert do("ps", "-q")[1] == ""
    assert do("logs", "one") == (0, "out\n", "err\n")
    assert do("logs", "--tail", "0", "one") == (0, "", "")
    (shown,) = json.loads(do("inspect", "one")[1])
    assert (shown["State"]["ExitCode"], shown["Name"]) == (7, "/one")
    assert do("diff", "one")[1] == "A /f\n"
    assert do("wait", "one")[1] == "7\n"
    assert do("rename", "one", "two")[0] == 0
    assert do("start", "nobody")[0] == 1
    code, _, err = do("attach", "two")
    assert code == 1 and "container two is not running" in err
    assert do("container", "prune", "-f")[1].startswith("Deleted Containers:\n")
    code, _, err = do("rm", "two")
    assert (code, "no such container: two" in err) == (1, True)
    assert do("rm", "-f", "two")[0] == 0


def test_one_runs_in_the_background_and_is_entered_and_ended(
    containers: BusyboxContainers, do: Do, tmp_path: Path
) -> None:
    containers.make("trap 'exit 3' TERM; while :; do sleep 0.01; done", "one", labels={"a": "b"})
    assert do("start", "one") == (0, "one\n", "")
    assert do("exec", "-e", "B=c", "one", "sh", "-c", "echo $B; exit 5") == (5, "c\n", "")
    code, _, err = do("exec", "one", "nothing-such")
    assert code == 127 and "nothing-such" in err
    assert do("ps", "--filter", "label=a=b", "--format", "{{.Names}}")[1] == "one\n"
    assert do("ps", "--filter", "label=c", "-q")[1] == ""
    (tmp_path / "in").write_text("text")
    assert do("cp", str(tmp_path / "in"), "one:/in")[0] == 0
    assert do("cp", "one:/in", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out").read_text() == "text"
    assert "sh -c trap" in do("top", "one", "-o", "pid,args")[1]
    assert do("stats", "--no-stream", "--format", "{{.Name}}", "one")[1] == "one\n"
    assert do("port", "one") == (0, "", "")
    assert do("pause", "one") == (0, "one\n", "")
    assert do("ps", "--format", "{{.State}}")[1] == "paused\n"
    assert do("unpause", "one") == (0, "one\n", "")
    assert do("update", "--restart", "no", "one")[0] == 0
    assert do("restart", "-t", "60", "one") == (0, "one\n", "")
    assert do("stop", "--timeout", "60", "one") == (0, "one\n", "")
    assert do("wait", "one")[1] == "3\n"
    assert do("start", "one")[0] == 0
    assert do("kill", "one") == (0, "one\n", "")
    assert do("wait", "one")[1] == "137\n"
    said = do("events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}")
    assert said[0] == 0
    code, out, _ = do("export", "one", "-o", str(tmp_path / "tar"))
    assert (code, out) == (0, "") and (tmp_path / "tar").stat().st_size > 1000


def test_volumes_and_networks_are_made_shown_and_removed(do: Do) -> None:
    assert do("volume", "create", "--label", "a=b", "vol") == (0, "vol\n", "")
    assert do("volume", "ls", "--format", "{{.Name}} {{.Labels}}")[1] == "vol a=b\n"
    (shown,) = json.loads(do("volume", "inspect", "vol")[1])
    assert shown["Labels"] == {"a": "b"}
    assert "vol\n" in do("volume", "prune", "-a", "-f")[1]
    assert len(do("network", "create", "--subnet", "10.96.0.0/24", "net")[1]) == 65
    assert (
        do("network", "ls", "-f", "name=net", "--format", "{{.Name}} {{.Driver}}")[1]
        == "net bridge\n"
    )
    (shown,) = json.loads(do("network", "inspect", "net")[1])
    assert shown["IPAM"]["Config"][0]["Subnet"] == "10.96.0.0/24"
    assert do("network", "rm", "net") == (0, "net\n", "")
    assert do("network", "rm", "net")[0] == 1
