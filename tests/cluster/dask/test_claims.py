"""Claims through Dask: pinned, shared by two coordinators, ended by deaths, made again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pybuild.cluster.roles import Role
from tests.cluster.dask.processes import (
    Engine,
    LineProcess,
    needs_dask,
    role_certificates,
    running_engine,
)

pytestmark = [pytest.mark.slow, needs_dask]


@pytest.fixture
def engine() -> Generator[Engine]:
    with running_engine() as opened:
        yield opened


def claim_of(run: str, epoch: int = 1) -> dict[str, Any]:
    return {"run": run, "epoch": epoch, "from": "test"}


def wait_for(dispatcher: LineProcess, *names: str) -> None:
    while set(dispatcher.hear("workers")["workers"]) != set(names):
        pass


def test_a_claim_goes_to_its_worker_and_ends_with_its_step(engine: Engine) -> None:
    a, _ = engine.agent("a"), engine.agent("b")
    dispatcher = engine.dispatcher()
    wait_for(dispatcher, "a", "b")
    dispatcher.say(id=1, claim=claim_of("k"), worker="a")
    said = a.hear("claim")
    assert json.loads(said["claim"]) == claim_of("k")
    while dispatcher.hear("workers")["workers"] != {"a": 1, "b": 0}:
        pass
    dispatcher.say(id=1, place=True)
    assert dispatcher.hear("at") == {"id": 1, "at": "a"}
    a.say(id=said["id"], end=json.dumps({"state": "done"}))
    assert dispatcher.hear("end") == {"id": 1, "end": {"state": "done"}}


def test_two_coordinators_with_one_run_have_one_claim(engine: Engine) -> None:
    a, b = engine.agent("a"), engine.agent("b")
    first, second = engine.dispatcher(), engine.dispatcher()
    for dispatcher in (first, second):
        wait_for(dispatcher, "a", "b")
    first.say(id=1, claim=claim_of("k"), worker="a")
    said = a.hear("claim")
    second.say(id=7, claim=claim_of("k"), worker="b")
    second.say(id=8, claim=claim_of("other"), worker="b")
    assert json.loads(b.hear("claim")["claim"])["run"] == "other"  # and the first was before it
    second.say(id=7, place=True)
    assert second.hear("at") == {"id": 7, "at": "a"}
    first.say(id=1, release=True)  # the first one gives up; the second has it still
    a.say(id=said["id"], end=json.dumps({"state": "done"}))
    assert second.hear("end")["id"] == 7


def test_an_agent_that_dies_ends_its_claims(engine: Engine) -> None:
    a, b = engine.agent("a"), engine.agent("b")
    dispatcher = engine.dispatcher()
    wait_for(dispatcher, "a", "b")
    dispatcher.say(id=1, claim=claim_of("k"), worker="a")
    a.hear("claim")
    a.kill()
    assert dispatcher.hear("fault")["fault"].startswith("KilledWorker")
    dispatcher.say(id=2, claim=claim_of("k", 2), worker="b")
    said = b.hear("claim")
    assert json.loads(said["claim"])["epoch"] == 2
    b.say(id=said["id"], end=json.dumps({"state": "done"}))
    assert dispatcher.hear("end")["id"] == 2


def test_a_scheduler_that_dies_is_waited_for(engine: Engine) -> None:
    a = engine.agent("a")
    dispatcher = engine.dispatcher()
    wait_for(dispatcher, "a")
    dispatcher.say(id=1, claim=claim_of("k"), worker="a")
    a.hear("claim")
    engine.scheduler.kill()
    assert dispatcher.hear("fault")["id"] == 1
    a.process.wait(60)  # whoever keeps it starts it again
    dispatcher.hear("lost")
    dispatcher.say(id=2, claim=claim_of("k", 2), worker="a")
    assert dispatcher.hear("fault") == {"id": 2, "fault": "there is no scheduler"}
    engine.again()
    a = engine.agent("a")
    wait_for(dispatcher, "a")
    dispatcher.say(id=3, claim=claim_of("k", 2), worker="a")
    said = a.hear("claim")
    a.say(id=said["id"], end=json.dumps({"state": "done"}))
    assert dispatcher.hear("end")["id"] == 3


def test_a_scheduler_that_is_silent_has_gone_until_it_speaks(engine: Engine) -> None:
    """Its connections stay open while its process is stopped."""
    a = engine.agent("a")
    dispatcher = engine.dispatcher()
    wait_for(dispatcher, "a")
    dispatcher.say(id=1, claim=claim_of("k"), worker="a")
    a.hear("claim")
    engine.scheduler.signal("STOP")
    dispatcher.say(id=1, place=True)
    assert dispatcher.hear("at") == {"id": 1, "at": ""}
    assert dispatcher.hear("lost") == {"lost": "the scheduler is silent"}
    dispatcher.say(id=2, claim=claim_of("k", 2), worker="a")
    assert dispatcher.hear("fault") == {"id": 2, "fault": "there is no scheduler"}
    engine.scheduler.signal("CONT")
    wait_for(dispatcher, "a")
    dispatcher.say(id=3, claim=claim_of("other"), worker="a")
    said = a.hear("claim")
    a.say(id=said["id"], end=json.dumps({"state": "done"}))
    assert dispatcher.hear("end")["id"] == 3


def test_a_run_that_is_claimed_again_has_the_end_of_its_new_claim(engine: Engine) -> None:
    """The old claim, which nobody waits for, is given up: Dask would have the new one wait for that one's end."""
    a, dispatcher = engine.agent("a", slots=1), engine.dispatcher()
    wait_for(dispatcher, "a")
    said: Mapping[str, Any] = {}
    for number in range(1, 20):
        dispatcher.say(id=number, claim=claim_of("k", number), worker="a")
        said = a.hear("claim")
        assert json.loads(said["claim"])["epoch"] == number
        dispatcher.say(id=number, release=True)
    dispatcher.say(id=20, claim=claim_of("k", 20), worker="a")
    last = a.hear("claim")
    a.say(id=said["id"], end=json.dumps({"state": "stale"}))
    a.say(id=last["id"], end=json.dumps({"state": "ended"}))
    assert dispatcher.hear("end") == {"id": 20, "end": {"state": "ended"}}


def test_processes_end_with_their_parents(engine: Engine) -> None:
    agent, dispatcher = engine.agent("a"), engine.dispatcher()
    agent.hear("ready")
    wait_for(dispatcher, "a")
    for process in (dispatcher, agent, engine.scheduler):
        process.end()
        assert process.process.returncode == 0


def test_with_certificates_nobody_is_served_without_one(tmp_path: Path) -> None:
    with running_engine(role_certificates(tmp_path)) as engine:
        assert engine.address.startswith("tls://")
        a, dispatcher = engine.agent("a"), engine.dispatcher()
        wait_for(dispatcher, "a")
        dispatcher.say(id=1, claim=claim_of("k"), worker="a")
        said = a.hear("claim")
        a.say(id=said["id"], end=json.dumps({"state": "done"}))
        assert dispatcher.hear("end")["id"] == 1
        engine.tls = {}
        engine.address = engine.address.replace("tls:", "tcp:")
        assert "lost" in engine.dispatcher().hear()


def test_a_scheduler_listens_to_each_by_its_role(tmp_path: Path) -> None:
    """With a worker's certificate nobody makes claims, and with a coordinator's nobody answers them."""
    tls = role_certificates(tmp_path)
    with running_engine(tls) as engine:
        for role in (Role.WORKER, Role.SCHEDULER):
            engine.tls[Role.COORDINATOR] = tls[role]
            assert "lost" in engine.dispatcher().hear()
        for role in (Role.COORDINATOR, Role.SCHEDULER):
            engine.tls[Role.WORKER] = tls[role]
            agent = engine.agent("a")
            agent.process.wait(60)  # it has said nothing, and never was ready
            with pytest.raises(AssertionError):
                agent.hear("ready")
        engine.tls = dict(tls)
        engine.agent("a")
        wait_for(engine.dispatcher(), "a")


def test_who_has_a_workers_certificate_cannot_be_the_scheduler(tmp_path: Path) -> None:
    tls = role_certificates(tmp_path)
    with running_engine({**tls, Role.SCHEDULER: tls[Role.WORKER]}) as engine:
        dispatcher, agent = engine.dispatcher(), engine.agent("a")
        assert "certificate" in dispatcher.hear("lost")["lost"]
        agent.process.wait(60)
        with pytest.raises(AssertionError):
            agent.hear("ready")


def test_without_the_extra_nothing_of_it_is_needed() -> None:
    """[A11] The room imports, and runs, where `distributed` is missing."""
    code = (
        "import sys\n"
        "sys.modules['distributed'] = sys.modules['dask'] = None\n"
        "import pybuild.cluster.commands, pybuild.cluster.coordinator, pybuild.cluster.process\n"
        "assert not any(name.startswith('pybuild.cluster.dask') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)
