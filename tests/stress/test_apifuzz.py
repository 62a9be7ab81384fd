"""The fuzz of `tests.stress.apifuzz`, in small: tens of thousands are the command line's [ENG-18, ENG-20]."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybuild.daemon.rest.creating import endpoint_of, limits_of, request_of
from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.handlers import ROUTES
from pybuild.daemon.rest.networks import network_of
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.errors import UserError
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import make_base
from tests.needs import need, needs
from tests.stress.apifuzz import fuzz
from tests.stress.apishapes import NETWORK, PLACE, SHAPES
from tests.stress.spoiledjson import spoiled

_IMAGE: dict[str, Any] = {"Cmd": ["c"], "Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}}


def test_bodies_of_any_kind_are_read_or_refused() -> None:
    """Whatever a field is: what reads it answers with a refusal of ours, or with what it read."""
    random, read = Random(1), 0
    container = SHAPES["POST /containers/create"].body
    limits = SHAPES["POST /containers/{name}/update"].body
    assert container is not None and limits is not None
    for _ in range(80):
        for draw in (container, limits, NETWORK, PLACE):
            data = json.dumps(draw(random)).encode()
            data = spoiled(random, data) if random.random() < 0.3 else data
            with suppress(ApiRefusal, UserError):
                body = read_object(data)
                if draw is container:
                    request_of(body, "n", _IMAGE, {True: "", False: ""})
                elif draw is limits:
                    limits_of(body)
                elif draw is NETWORK:
                    network_of(body)
                else:
                    endpoint_of("n", body)
                read += 1
    assert read > 40


def test_the_shapes_are_of_routes_that_there_are() -> None:
    assert set(SHAPES) <= set(ROUTES)


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.root
@needs("nft")
def test_no_request_is_answered_by_a_fault(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("nsenter")
    with network_namespace() as pid:
        pybuild = NetworkedPybuild(tmp_path / "store", pid=pid)
        make_base(pybuild, tmp_path / "context", "base:1")
        summary, found = fuzz(pybuild, tmp_path, 150, 7)
    assert summary.wrong == []
    assert found.statuses.total() == 150
