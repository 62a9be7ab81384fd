"""A container in docker's words: `inspect`, the texts of `ps`, its filters [CTR-30, CTR-70…73]."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.containers.choosing import Choice
from pybuild.containers.config import ContainerConfig
from pybuild.containers.inspecting import ContainerDetails, document
from pybuild.containers.listing import status_text
from pybuild.containers.order import HealthCheck, RestartPolicy
from pybuild.containers.state import ContainerState
from pybuild.executor.steps.spec import StepLimits
from pybuild.model.errors import UsageError
from pybuild.volumes.mountpoint import settled
from pybuild.volumes.reading import read_bind, read_mount, read_tmpfs

SECOND = 1_000_000_000
CONFIG = ContainerConfig(
    id="ab" * 32,
    name="one",
    image="app:1",
    manifest="sha256:1",
    image_id="sha256:2",
    deltas=("x", "y"),
    created=1_700_000_000 * SECOND + 5,
    cmd=("sh", "-c", "true"),
    env=("A=b",),
    labels={"k": "v", "empty": ""},
    exposed=("53/udp", "80/tcp"),
    mounts=settled(
        [read_bind("vol:/v"), read_bind("/h:/b:ro"), read_mount("src=vol,dst=/m"), read_tmpfs("/t:size=1m")],
        (), ["/own"],
    ),
    restart=RestartPolicy("on-failure", 3),
    limits=StepLimits(memory_bytes=64 << 20),
    health=HealthCheck(("CMD", "true"), retries=7),
)  # fmt: skip
EXITED = ContainerState("exited", started=1_700_000_001 * SECOND, finished=SECOND, exit_code=3)


def shown(config: ContainerConfig = CONFIG, state: ContainerState = EXITED) -> dict[str, Any]:
    where = ContainerDetails(
        path="/c", lowers=("/l/x", "/l/y"), mountpoint=lambda name: f"/v/{name}"
    )
    return document(config, state, where)


def test_what_it_is_and_how_it_goes() -> None:
    facts = shown()
    assert (facts["Id"], facts["Name"], facts["Image"]) == (CONFIG.id, "/one", "sha256:2")
    assert (facts["Path"], facts["Args"]) == ("sh", ["-c", "true"])
    assert facts["Created"] == "2023-11-14T22:13:20.000000005Z"
    assert facts["State"] == {
        "Status": "exited", "Running": False, "Paused": False, "Restarting": False,
        "OOMKilled": False, "Dead": False, "Pid": 0, "ExitCode": 3, "Error": "",
        "StartedAt": "2023-11-14T22:13:21.000000000Z", "FinishedAt": "1970-01-01T00:00:01.000000000Z",
    }  # fmt: skip
    assert shown(state=ContainerState())["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert shown(state=ContainerState("restarting"))["State"]["Running"] is True


def test_what_was_given_is_shown_as_it_was_given() -> None:
    """CTR-4, CTR-70: HostConfig has strings as they were said, and docker's defaults."""
    host = shown()["HostConfig"]
    assert host["Binds"] == ["vol:/v", "/h:/b:ro"]
    assert host["Mounts"] == [{"Type": "volume", "Source": "vol", "Target": "/m"}]
    assert host["Tmpfs"] == {"/t": "size=1m"}
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 128 << 20)
    assert (host["ShmSize"], host["PidsLimit"], host["CapAdd"]) == (64 << 20, None, None)


def test_what_is_mounted() -> None:
    """CTR-72: a tmpfs of --tmpfs is not among them."""
    mounts = {one["Destination"]: one for one in shown()["Mounts"]}
    assert list(mounts) == ["/v", "/b", "/m", "/own"]
    assert mounts["/v"]["Source"] == "/v/vol" and mounts["/v"]["Mode"] == "z"
    assert mounts["/b"]["RW"] is False and mounts["/b"]["Propagation"] == "rprivate"


def test_what_is_null_and_what_is_empty() -> None:
    """CTR-71."""
    config = shown()["Config"]
    assert config["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
    assert config["Volumes"] == {"/own": {}}
    assert (config["Entrypoint"], config["OnBuild"]) == (None, None)
    plain = shown(ContainerConfig(id="c" * 64, name="two", image="i", manifest="m", deltas=()))
    assert (plain["Mounts"], plain["Config"]["Volumes"], plain["Config"]["Labels"]) == (
        [],
        None,
        {},
    )
    assert plain["NetworkSettings"]["Ports"] == {} and plain["HostConfig"]["Binds"] is None
    assert plain["NetworkSettings"]["Networks"].keys() == {"host"}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(), "Created"),
        (ContainerState("exited", exit_code=137, finished=SECOND), "Exited (137) 5"),
        (ContainerState("running", started=SECOND), "Up 5"),
        (ContainerState("paused", started=SECOND), "Up 5"),
        (ContainerState("restarting", exit_code=1, finished=SECOND), "Restarting (1) 5"),
    ],
)
def test_states_in_words(state: ContainerState, text: str) -> None:
    assert status_text(state).startswith(text)


def fits(*filters: str, state: ContainerState = EXITED) -> bool:
    choice = Choice(filters, lambda text: {text, "sha256:1"}, lambda text: int(text) * SECOND)
    return choice.fits(CONFIG, state, "healthy")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["name=on"], True),
        (["name=^/one$"], True),
        (["name=^ne"], False),
        (["id=abab"], True),
        (["label=k"], True),
        (["label=k=v", "label=empty="], True),
        (["label=k", "label=other"], False),
        (["label!=k"], False),
        (["status=running", "status=exited"], True),
        (["status=created"], False),
        (["exited=3"], True),
        (["exited=0"], False),
        (["ancestor=app:1"], True),
        (["before=1800000000"], True),
        (["since=1800000000"], False),
        (["volume=vol"], True),
        (["volume=/own"], True),
        (["volume=other"], False),
        (["network=host"], True),
        (["expose=79-81"], False),  # it does not run
        (["expose=53"], False),
        (["health=none"], False),
        (["health=starting", "health=healthy"], True),
        (["name=one", "id=zz"], False),
        ([], True),
    ],
)
def test_filters(filters: list[str], expected: bool) -> None:
    assert fits(*filters) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("color=red", "invalid filter 'color'"),
        ("name", "invalid filter 'name'"),
        ("status=gone", "invalid filter 'status=gone'"),
        ("exited=x", "invalid filter 'exited=x'"),
        (f"exited={'9' * 5000}", "invalid filter 'exited=9"),
        ("expose=1-99999999999", "invalid filter 'expose=1-9"),
        ("name=(", r"invalid filter 'name=\('"),
    ],
)
def test_wrong_filters(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fits(text)


def test_name_servers_are_shown_where_they_were_given() -> None:
    config = CONFIG._replace(dns=("1.1.1.1",), dns_search=("example",), dns_options=("ndots:1",))
    words = ("Dns", "DnsSearch", "DnsOptions")
    host = shown(config)["HostConfig"]
    assert [host[word] for word in words] == [[], [], ["ndots:1"]]
    host = shown(config._replace(given=("dns", "dns-search")))["HostConfig"]
    assert [host[word] for word in words] == [["1.1.1.1"], ["example"], ["ndots:1"]]


def test_limits_that_nobody_gave_are_zero() -> None:
    host = shown(CONFIG._replace(limits=StepLimits()))["HostConfig"]
    names = ("CpuRealtimePeriod", "CpuRealtimeRuntime", "BlkioWeight", "CpuPeriod", "CpuQuota")
    for name in (*names, "CpuShares", "NanoCpus", "Memory", "MemorySwap", "MemoryReservation"):
        assert host[name] == 0, name
