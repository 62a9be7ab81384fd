"""The options of ``run`` and ``create`` as a container's config [CTR-1, CTR-2, CTR-3, CTR-7, CTR-31, CTR-33]."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybuild.arguments import containers as arguments
from pybuild.arguments import variables
from pybuild.commandline import find
from pybuild.commandline.parser import Parsed, parse
from pybuild.containers.config import ContainerConfig
from pybuild.containers.defaults import command_of, read_restart
from pybuild.containers.givenwords import followed_streams
from pybuild.containers.order import HealthCheck, LogConfig, RestartPolicy
from pybuild.containers.signals import signal_number
from pybuild.model.errors import UsageError

CREATE = find("create")
assert CREATE is not None
OPTIONS = CREATE.options


def given(*words: str) -> Parsed:
    return parse((*words, "image"), OPTIONS)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        act()
    return caught.value.message


IMAGE: dict[str, Any] = {"Entrypoint": ["/entry"], "Cmd": ["c"], "Env": ["A=1", "B=2"]}


@pytest.mark.parametrize(
    ("entrypoint", "command", "result"),
    [
        (None, [], (("/entry",), ("c",))),
        (None, ["x", "y"], (("/entry",), ("x", "y"))),
        ("e", [], (("e",), None)),
        ("e", ["x"], (("e",), ("x",))),
        ("", ["x"], (None, ("x",))),
    ],
)
def test_entrypoint_and_command(entrypoint: str | None, command: list[str], result: object) -> None:
    """A given entrypoint discards the image's command [CTR-2]."""
    assert command_of(None if entrypoint is None else [entrypoint], command, IMAGE) == result


def test_nothing_to_run_is_refused() -> None:
    assert refusal(lambda: command_of([""], [], IMAGE)).startswith("no command specified")
    assert refusal(lambda: command_of(None, [], {})).startswith("no command specified")


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a value that is not here takes the image's away [CTR-1]."""
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("B", raising=False)
    path = tmp_path / "env"
    path.write_text("# no\n\nX=file\n  HERE\nY=a b\n")
    parsed = given("--env-file", str(path), "-e", "X=option", "-e", "B", "-e", "A=3")
    assert variables.environment_of(parsed, IMAGE) == ("X=option", "HERE=yes", "Y=a b", "A=3")
    missing = given("--env-file", str(tmp_path / "none"))
    assert "no such file" in refusal(lambda: variables.environment_of(missing, IMAGE))


def test_labels_of_the_image_and_ours() -> None:
    image = {"Labels": {"a": "1", "b": "2"}}
    assert variables.labels_of(given("-l", "b=3", "--label", "c"), image) == {
        "a": "1",
        "b": "3",
        "c": "",
    }


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", RestartPolicy()),
        ("no", RestartPolicy()),
        ("always", RestartPolicy("always")),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:4", RestartPolicy("on-failure", 4)),
        ("unless-stopped", RestartPolicy("unless-stopped")),
    ],
)
def test_restart_policies(text: str, policy: RestartPolicy) -> None:
    assert read_restart(text) == policy


def test_wrong_restart_policies() -> None:
    assert "maximum retry count can only be used with 'on-failure'" in refusal(
        lambda: read_restart("always:3")
    )
    assert "unknown policy 'ever'" in refusal(lambda: read_restart("ever"))
    assert '"x" is no number' in refusal(lambda: read_restart("on-failure:x"))


def test_log_options() -> None:
    parsed = given("--log-opt", "max-size=10k", "--log-opt", "max-file=3")
    assert arguments.log_config(parsed) == LogConfig(
        "json-file", {"max-size": "10k", "max-file": "3"}
    )
    for words, message in (
        (("--log-driver", "syslog"), 'no log driver named "syslog"'),
        (("--log-opt", "x=y"), "unknown log opt 'x' for json-file log driver"),
        (
            ("--log-driver", "none", "--log-opt", "max-size=1m"),
            "unknown log opt 'max-size' for none log driver",
        ),
        (("--log-opt", "max-size=ten"), 'invalid max-size "ten"'),
        (("--log-opt", "max-file=0"), 'invalid max-file "0"'),
        (("--log-opt", "max-size=1k", "--log-opt", "max-file=1001"), "at most 1000 files"),
        (("--log-opt", "max-size=1k", "--log-opt", f"max-file={'9' * 30}"), "at most 1000 files"),
        (("--log-opt", "max-file=2"), "max-file needs max-size"),
    ):
        assert message in refusal(partial(arguments.log_config, given(*words)))


def test_health_checks() -> None:
    """Each part that is not given is the image's, else the default [CTR-3]."""
    image = {"Healthcheck": {"Test": ["CMD", "probe"], "Interval": 5_000_000, "Retries": 9}}
    assert arguments.health_check(given(), {}) is None
    none = HealthCheck(("NONE",))
    assert none.resolved(()) is None
    assert arguments.health_check(given(), {"Healthcheck": {"Test": ["NONE"]}}) == none
    assert arguments.health_check(given("--no-healthcheck"), image) == none
    assert arguments.health_check(given(), image) == HealthCheck(
        ("CMD", "probe"), interval=5_000_000, retries=9
    )
    assert arguments.health_check(
        given("--health-cmd", "a && b", "--health-interval", "2s", "--health-retries", "1"), image
    ) == HealthCheck(("CMD-SHELL", "a && b"), interval=2_000_000_000, retries=1)
    check = HealthCheck(("CMD-SHELL", "x"), timeout=1_000_000).resolved(("/bin/ash", "-ec"))
    assert check == HealthCheck(
        ("CMD", "/bin/ash", "-ec", "x"), 30_000_000_000, 1_000_000, 0, 5_000_000_000, 3
    )
    assert "cannot be less than 1ms" in refusal(
        lambda: arguments.health_check(given("--health-interval", "1us"), image)
    )
    assert "--no-healthcheck conflicts" in refusal(
        lambda: arguments.health_check(given("--no-healthcheck", "--health-cmd", "x"), image)
    )


def test_limits() -> None:
    known = arguments.surroundings(
        given("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--add-host", "a:10.0.0.1")
    )
    limits = known["limits"]
    assert (limits.memory_bytes, limits.cpu_quota_us, limits.cpu_period_us, limits.pids) == (
        64 << 20,
        50_000,
        100_000,
        20,
    )
    assert known["add_hosts"] == (("a", "10.0.0.1"),)
    for words, message in (
        (("--memory", "5m"), "Minimum memory limit allowed is 6MB"),
        (("--cpus", "0"), "range of CPUs is from 0.01 to"),
        (("--cpus", "x"), 'invalid --cpus "x"'),
        (("--cpus", "0.5", "--cpu-quota", "5000"), "cannot both be set"),
        (("--pids-limit", "few"), 'invalid --pids-limit "few"'),
        (("--cpu-period", "10"), "CPU cfs period can not be less than 1ms"),
        (("--cpu-quota", "10"), "CPU cfs quota can not be less than 1ms"),
        (("--cpuset-cpus", "0,4000"), "requested CPUs are not available - requested 0,4000"),
    ):
        assert message in refusal(partial(arguments.surroundings, given(*words)))
    assert arguments.surroundings(given("--pids-limit", "-1"))["limits"].pids == 0


def test_how_it_is_stopped() -> None:
    image = {"StopSignal": "SIGQUIT"}
    assert arguments.stopping(given(), image) == {"stop_signal": "SIGQUIT", "stop_seconds": None}
    assert arguments.stopping(given("--stop-signal", "rtmin+3", "--stop-timeout", "4"), image) == {
        "stop_signal": "rtmin+3",
        "stop_seconds": 4.0,
    }
    assert "invalid signal: NO" in refusal(
        lambda: arguments.stopping(given("--stop-signal", "NO"), image)
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("kill", 9),
        ("SIGTERM", 15),
        ("SIGRTMIN+3", int(signal.SIGRTMIN) + 3),
        ("rtmax-1", int(signal.SIGRTMAX) - 1),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["0", "65", "SIGNO", "RTMIN-1", "RTMAX+1", ""])
def test_no_signals(text: str) -> None:
    with pytest.raises(UsageError, match="invalid signal"):
        signal_number(text)


def test_the_streams_that_are_followed() -> None:
    assert followed_streams((), detached=False) == {"stdin", "stdout", "stderr"}
    assert followed_streams(("STDERR", "stdin"), detached=False) == {"stdin", "stderr"}
    wrong = partial(followed_streams, ("stdwhat",), detached=False)
    assert "valid streams are STDIN, STDOUT and STDERR" in refusal(wrong)


def test_what_is_shown_alone_and_what_cannot_be_had() -> None:
    parsed = given("--annotation", "a=b", "--volume-driver", "local", "--disable-content-trust")
    shown = {"HostConfig": {"Annotations": {"a": "b"}, "VolumeDriver": "local"}}
    assert arguments.only_shown(parsed) == shown
    assert 'plugin "nfs" not found' in refusal(
        partial(arguments.only_shown, given("--volume-driver", "nfs"))
    )
    assert "checks signatures" in refusal(
        partial(arguments.only_shown, given("--disable-content-trust=false"))
    )


def test_memory_that_is_reserved_and_swapped() -> None:
    limits = arguments.surroundings(given("-m", "64m", "--memory-reservation", "32m"))["limits"]
    assert (limits.reserved_bytes, limits.swappiness) == (32 << 20, "")
    limits = arguments.surroundings(given("--memory-swappiness", "0"))["limits"]
    assert limits.swappiness == "0"
    for words, message in (
        (("-m", "8m", "--memory-reservation", "9m"), "can not be less than memory reservation"),
        (("--memory-reservation", "1m"), "Minimum memory reservation allowed is 6MB"),
        (("--memory-swappiness", "101"), "Valid memory swappiness range is 0-100"),
    ):
        assert message in refusal(partial(arguments.surroundings, given(*words)))


def test_what_is_said_of_no_option_is_what_its_reader_says() -> None:
    """Of limits and names of hosts, whose reader is loaded for those who say something of them."""
    silent, asking = (
        arguments.surroundings(given()),
        arguments.surroundings(given("--hostname=")),
    )
    assert "add_hosts" not in silent
    config = ContainerConfig(id="", name="", image="", manifest="", deltas=())
    assert config._replace(**silent) == config._replace(**asking) == config
