"""Docker's API over a real store: builds, terminals, waits, events, networks of containers [EP-5, ENG-30…38, NET-30]."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.docker.requests import EngineRefusal, Requests
from pybuild.containers.order import StreamAttachment
from pybuild.daemon.rest.lines import MonitorLine, Waiting
from pybuild.model.errors import UserError
from pybuild.networks.order import EndpointOrder
from tests.containers.busyboxes import BusyboxContainers, until
from tests.daemon.restengines import rest_engine
from tests.needs import needs
from tests.webservers import site

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[tuple[Requests, BusyboxContainers]]:
    with rest_engine(tmp_path) as made:
        yield made


def context_of(**files: str) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    data.seek(0)
    return data


def refusal(engine: Requests, method: str, path: str, query: Any = None, body: Any = None) -> str:
    with pytest.raises(EngineRefusal) as caught:
        engine.ask(method, path, query, body)
    return f"{caught.value.status} {caught.value.message}"


def test_a_context_is_built_as_by_the_old_builder(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    requests = engine[0]
    text = "FROM scratch\nARG A\nLABEL a=$A\nCOPY f /d/\n"

    def build(text: str, **query: Any) -> list[dict[str, Any]]:
        body = context_of(Dockerfile=text, f="text", Other="FROM scratch\nLABEL o=p\n")
        headers = {"Content-Type": "application/x-tar"}
        return list(requests.lines("POST", "/build", query, body, headers=headers))

    args = {"buildargs": json.dumps({"A": "1", "B": None}), "labels": json.dumps({"l": "m"})}
    said = build(text, t=["app:1", "app:2"], **args)
    (id,) = (line["aux"]["ID"] for line in said if "aux" in line)
    shown = "".join(line.get("stream", "") for line in said)
    assert "Step 1/1 : COPY f /d/\n" in shown or "COPY f /d/\n" in shown
    short = id.partition(":")[2][:12]
    assert shown.endswith(
        f"Successfully built {short}\nSuccessfully tagged app:1\nSuccessfully tagged app:2\n"
    )
    config = requests.ask("GET", "/images/app:1/json")["Config"]
    assert config["Labels"] == {"a": "1", "l": "m"}
    again = "".join(line.get("stream", "") for line in build(text, **args))
    assert " ---> Using cache\n" in again
    anew = "".join(line.get("stream", "") for line in build(text, nocache=True, **args))
    assert " ---> Using cache\n" not in anew
    named = {"cachefrom": json.dumps(["nothing:1"])}
    anew = "".join(line.get("stream", "") for line in build(text, **args, **named))
    assert " ---> Using cache\n" not in anew
    (line,) = build("", q=True, dockerfile="Other")
    assert requests.ask("GET", f"/images/{line['stream'].strip()}/json")["Config"]["Labels"] == {
        "o": "p"
    }
    with pytest.raises(UserError, match='"absent" is not in the context'):
        build("FROM scratch\nCOPY absent /\n")
    refused = {
        ("remote", "x"): 'remote "x" is neither a git repository nor a URL',
        ("networkmode", "mine"): "networkmode mine is not done by pybuild",
        ("buildargs", "[]"): "invalid buildargs: expected a JSON object of texts",
        ("labels", '{"a": 1}'): "invalid labels: expected a JSON object of texts",
    }
    for (name, value), message in refused.items():
        assert refusal(requests, "POST", "/build", {name: value}).startswith(f"400 {message}")
    assert refusal(requests, "POST", "/build/cancel") == "400 build ID not provided"
    assert refusal(requests, "POST", "/build/cancel", {"id": "x"}) == "404 build x was not found"


def test_a_terminal_is_left_by_keys_and_has_a_size(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    requests, containers = engine
    script = "stty size; read x; stty size; echo got $x; read y; echo then $y; exec sleep 1000"
    containers.make(script.replace("stty size", "busybox stty size"), "one", tty=True, stdin=True)
    query = {"stream": True, "stdin": True, "stdout": True, "logs": True}
    pipe = requests.hijacked("/containers/one/attach", query)
    requests.ask("POST", "/containers/one/start")
    requests.ask("POST", "/containers/one/resize", {"h": 33, "w": 99})
    pipe.sendall(b"in\n")
    said = b""
    while b"got in" not in said:
        piece = pipe.receive(4096)
        assert piece, said
        said += piece
    assert b"33 99" in said
    pipe.sendall(b"\x10\x11")
    while pipe.receive(4096):
        pass
    pipe.close()
    assert requests.ask("GET", "/containers/one/json")["State"]["Running"] is True
    again = requests.hijacked("/containers/one/attach", {**query, "logs": False})
    again.sendall(b"more\n")
    said = b""
    while b"then more" not in said:
        piece = again.receive(4096)
        assert piece, said
        said += piece
    assert b"got in" not in said
    again.sendall(b"\x10\x11")
    again.close()
    later = requests.hijacked("/containers/one/attach", {"logs": True, "stdout": True})
    assert b"got in" in b"".join(iter(lambda: later.receive(4096), b""))
    later.close()
    refused = {
        ("h", "x"): 'invalid resize height "x": invalid syntax',
        ("h", "70000"): 'invalid resize height "70000": value out of range',
        ("h", "-1"): 'invalid resize height "-1": value out of range',
    }
    for (name, value), message in refused.items():
        asked = {"h": "1", "w": "1", name: value}
        path = "/containers/one/resize"
        assert refusal(requests, "POST", path, asked) == f"400 {message}"
    with pytest.raises(EngineRefusal, match="Invalid detach keys"):
        requests.hijacked("/containers/one/attach", {"stream": True, "detachKeys": "ctrl-"})
    requests.ask("POST", "/containers/one/pause")
    with pytest.raises(EngineRefusal, match="is paused, unpause the container before attach"):
        requests.hijacked("/containers/one/attach", query)
    requests.ask("POST", "/containers/one/unpause")
    requests.ask("POST", "/containers/one/kill")


@pytest.mark.parametrize("condition", ["next-exit", "removed"])
def test_an_end_before_the_wait_is_known_is_not_missed(
    engine: tuple[Requests, BusyboxContainers],
    condition: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The container runs between the look at its state and the line that its monitor would get."""
    requests, containers = engine
    one = containers.make("exit 6", "one")
    add = Waiting.wait

    def run_and_add(waiting: Waiting, id: str, attachment: StreamAttachment) -> MonitorLine:
        containers.start(one)
        until(lambda: not one.state().lives)
        line = add(waiting, id, attachment)
        if condition == "removed":
            threading.Timer(0.5, containers.remove, [one]).start()
        return line

    monkeypatch.setattr(Waiting, "wait", run_and_add)
    answer = requests.ask("POST", "/containers/one/wait", {"condition": condition})
    assert answer == {"StatusCode": 6}


def test_ends_are_waited_for_and_told_as_events(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    requests, containers = engine
    codes: dict[str, int] = {}
    waits = ExitStack()

    def wait(condition: str) -> threading.Thread:
        """Ask for the next end; on return the engine waits for it, as its answer's head says."""
        asked = requests.asking("POST", "/containers/one/wait", {"condition": condition})
        response = waits.enter_context(asked)

        def work() -> None:
            codes[condition] = json.loads(response.read())["StatusCode"]

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    one = containers.make("read x; exit $x", "one", stdin=True)
    assert requests.ask("POST", "/containers/one/wait") == {"StatusCode": 0}  # it does not run
    message = refusal(requests, "POST", "/containers/one/wait", {"condition": "dead"})
    assert message == '400 invalid condition: "dead"'
    threads = [wait("next-exit"), wait("removed")]
    pipe = requests.hijacked("/containers/one/attach", {"stream": True, "stdin": True})
    requests.ask("POST", "/containers/one/start")
    threads.append(wait("not-running"))
    pipe.sendall(b"6\n")
    threads[0].join(60)
    threads[2].join(60)
    pipe.close()
    assert (codes["next-exit"], codes["not-running"]) == (6, 6)
    assert "removed" not in codes
    requests.ask("DELETE", "/containers/one")
    threads[1].join(60)
    waits.close()
    assert codes["removed"] == 6
    query = {
        "since": "0",
        "until": "0s",
        "filters": json.dumps({"container": [one.config.id], "type": ["container"]}),
    }
    told = list(requests.lines("GET", "/events", query))
    actions = [event["Action"] for event in told]
    assert [name for name in actions if name in ("start", "die", "destroy")] == [
        "start",
        "die",
        "destroy",
    ]
    (died,) = (event for event in told if event["Action"] == "die")
    assert died["Actor"]["Attributes"]["exitCode"] == "6" and died["status"] == "die"
    assert died["Actor"]["Attributes"]["name"] == "one"


@needs("nft")
def test_containers_are_brought_to_networks(engine: tuple[Requests, BusyboxContainers]) -> None:
    requests, containers = engine
    config = {"Subnet": "10.95.0.0/24", "IPRange": "10.95.0.128/25", "Gateway": "10.95.0.9"}
    body = {
        "Name": "net",
        "Internal": True,
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "IPAM": {"Driver": "default", "Config": [{**config, "AuxiliaryAddresses": {"a": "10.95.0.5"}}]},
    }  # fmt: skip
    made = requests.ask("POST", "/networks/create", None, body)
    shown = requests.ask("GET", "/networks/net")
    (pool,) = shown["IPAM"]["Config"]
    assert {key: pool[key] for key in config} == config
    assert shown["Internal"] is True and shown["Options"] == body["Options"]
    refused: dict[str, dict[str, Any]] = {
        "400 networks that only lend their configuration": {"ConfigOnly": True},
        "400 networks of scope swarm need a swarm": {"Scope": "swarm"},
        '404 plugin "x" not found': {"IPAM": {"Driver": "x"}},
    }
    for message, more in refused.items():
        said = refusal(requests, "POST", "/networks/create", None, {"Name": "other", **more})
        assert said.startswith(message)
    requests.ask("POST", "/networks/create", None, {"Name": "own"})
    containers.make("exec sleep 1000", "one", network="own", networks=(EndpointOrder("own"),))
    place = {"IPAMConfig": {"IPv4Address": "10.95.0.130"}, "Aliases": ["web"]}
    path = f"/networks/{made['Id']}/connect"
    requests.ask("POST", path, None, {"Container": "one", "EndpointConfig": place})
    requests.ask("POST", "/containers/one/start")
    known = requests.ask("GET", "/containers/one/json")["NetworkSettings"]["Networks"]
    assert known["net"]["IPAddress"] == "10.95.0.130" and "web" in known["net"]["Aliases"]
    (member,) = requests.ask("GET", "/networks/net")["Containers"].values()
    assert (member["Name"], member["IPv4Address"]) == ("one", "10.95.0.130/24")
    assert refusal(requests, "DELETE", "/networks/net").startswith("403 ")
    requests.ask("POST", "/networks/net/disconnect", None, {"Container": "one"})
    assert requests.ask("GET", "/networks/net")["Containers"] == {}
    until(lambda: containers.find("one").state().lives)
    pruned = requests.ask("POST", "/networks/prune", {"filters": json.dumps({"until": ["0s"]})})
    assert pruned["NetworksDeleted"] == ["net"]
    requests.ask("POST", "/containers/one/kill")
    filters = json.dumps({"name": ["own"], "type": ["custom"]})
    assert [one["Name"] for one in requests.ask("GET", "/networks", {"filters": filters})] == [
        "own"
    ]


def test_a_link_is_removed_by_its_name(engine: tuple[Requests, BusyboxContainers]) -> None:
    """``DELETE /containers/PARENT/ALIAS?link=1``; test_links.py has one of a parent that runs [NET-15]."""
    requests, containers = engine
    place = EndpointOrder("bridge")
    child = containers.make("exec sleep 1000", "db", network="bridge", networks=(place,)).config.id
    links = tuple((child, alias) for alias in ("a", "b", "c"))
    containers.make(
        "exec sleep 1000", "app", network="bridge", networks=(place._replace(links=links),)
    )

    def shown() -> list[str] | None:
        known: list[str] | None = requests.ask("GET", "/containers/app/json")["HostConfig"]["Links"]
        return known

    for path in ("app/a", "%2Fapp%2Fb"):
        assert requests.ask("GET", f"/containers/{path}/json")["Id"] == child
    names = {
        one["Id"]: one["Names"] for one in requests.ask("GET", "/containers/json", {"all": "1"})
    }
    assert names[child] == ["/db", "/app/a", "/app/b", "/app/c"]
    assert refusal(requests, "GET", "/containers/app/x/json") == "404 No such container: app/x"
    for path in ("app/a", "%2Fapp%2Fb"):
        requests.ask("DELETE", f"/containers/{path}", {"link": True, "force": False})
    assert shown() == ["/db:/app/c"]
    requests.ask("DELETE", "/containers/app/c", {"link": "1"})
    assert shown() is None
    refused = {"app/c": "404 No such link: /app/c", "x/c": "404 No such container: x"}
    refused["app"] = "409 Conflict, cannot remove the default link name of the container"
    for path, message in refused.items():
        said = refusal(requests, "DELETE", f"/containers/{path}", {"link": "1"})
        assert said == message
    assert requests.ask("GET", "/containers/app/json")["Name"] == "/app"


def test_a_login_of_nobody_is_tried_too(engine: tuple[Requests, BusyboxContainers]) -> None:
    """As of docker-py's ``login(registry=…)``: a registry may let everybody in [EP-4]."""
    with site() as registry:
        body = {"serveraddress": registry.url.removeprefix("http://")}
        registry.files["/v2/"] = b"{}"
        assert engine[0].ask("POST", "/auth", None, body)["Status"] == "Login Succeeded"
        registry.authorization = "Basic eDp5"
        message = refusal(engine[0], "POST", "/auth", None, body)
        assert message.startswith(f"401 login attempt to {body['serveraddress']} failed")
