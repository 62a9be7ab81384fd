"""Provenance of a request here, and the builds whose metadata file has some [ATT, BLD-30]."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.builds.delivery import Solves
from pybuild.builds.localattestations import LocalAttestor, client_attrs
from pybuild.builds.lookups import Lookups
from pybuild.builds.request import BuildRequest
from pybuild.exporter.attest.options import AttestOptions, Provenance
from pybuild.model.events import Event
from pybuild.model.volumes import HostVolume
from tests.builds.test_attestations import NOTHING, SOMETHING, built
from tests.registry.fakes import WallClock

METADATA = "buildx.build.provenance"


@pytest.mark.parametrize(
    ("context", "dockerfile", "attrs"),
    [
        ("-", "", {"filename": "Dockerfile"}),
        ("-", "sub/Other", {"filename": "Other"}),
        ("https://h.example/x.git", "", {"context": "https://h.example/x.git"}),
        ("https://h.example/x.git", "sub/Other", {"filename": "sub/Other"}),
        ("https://h.example/x.tar", "a/b", {"context": "https://h.example/x.tar"}),
    ],
)
def test_a_request_is_told_as_a_clients(
    context: str, dockerfile: str, attrs: dict[str, str]
) -> None:
    request = BuildRequest(context=context, dockerfile=dockerfile, named_contexts={"n": "./there"})
    made = asyncio.run(client_attrs(request))
    assert made["context:n"] == "./there"
    assert made | attrs == made
    assert ("context" in made) is context.startswith("https")


def test_a_directory_is_told_without_its_place(tmp_path: Path) -> None:
    made = asyncio.run(client_attrs(BuildRequest(context=str(tmp_path), dockerfile="/d/Other")))
    assert made["filename"] == "Other"
    assert "context" not in made and str(tmp_path) not in str(made)


def test_a_volume_that_does_not_count_is_named_with_its_mode(tmp_path: Path) -> None:
    """The others are directories of the client in the definition."""
    volumes = (
        HostVolume(source="/secret/place", target="/in", in_key=False),
        HostVolume(source="/s", target="/keyed"),
    )
    request = BuildRequest(context=str(tmp_path), volumes=volumes, pull="never")
    made = asyncio.run(client_attrs(request))
    assert made["volume:/in"] == "ro" and "volume:/keyed" not in made
    assert "/secret/place" not in str(made)


def attested(*keys: str, options: Provenance | None) -> LocalAttestor:
    """An attestor of results by these keys, of which each has a step."""
    engine: Any = SimpleNamespace(clock=WallClock())
    prepared = SimpleNamespace(
        request=BuildRequest(context="-"),
        started=1.0,
        lookups=Lookups(),
        inputs=SimpleNamespace(filename="Dockerfile", dockerfile=b"FROM scratch\n"),
        sources=SimpleNamespace(remote=None),
    )
    attestor = LocalAttestor(
        engine, cast(Any, prepared), cast(Any, None), AttestOptions(provenance=options), ignored
    )
    results = [built(SOMETHING, key) for key in keys]
    made = asyncio.run(attestor.attest(results, Solves(engine)))
    assert [len(one.attestations) for one in made] == [int(options is not None)] * len(keys)
    return attestor


def ignored(event: Event) -> None:
    """Of what happens meanwhile nothing matters."""


@pytest.mark.parametrize("mode", ["disabled", "false", "0", "FALSE", "Disabled"])
def test_a_metadata_file_without_provenance(mode: str) -> None:
    attestor = attested("k", options=Provenance(full=False))
    environ = {"BUILDX_METADATA_PROVENANCE": mode}
    assert asyncio.run(attestor.metadata([built(SOMETHING, "k")], environ)) == {}


def test_a_metadata_file_of_a_build_that_wants_none() -> None:
    attestor = attested("k", options=None)
    assert asyncio.run(attestor.metadata([built(SOMETHING, "k")], {})) == {}


@pytest.mark.parametrize("mode", [None, "", "min"])
def test_a_metadata_file_has_the_provenance_in_short(mode: str | None) -> None:
    attestor = attested("k", options=Provenance(full=True))
    environ = {} if mode is None else {"BUILDX_METADATA_PROVENANCE": mode}
    metadata = asyncio.run(attestor.metadata([built(SOMETHING, "k")], environ))
    assert list(metadata) == [METADATA]
    assert "buildConfig" not in str(metadata)
    assert "dockerfile.v0" in str(metadata)


def test_provenance_of_several_results_is_by_key() -> None:
    attestor = attested("a", "b", options=Provenance(full=False))
    results = [built(SOMETHING, "a"), built(NOTHING, "n"), built(SOMETHING, "b")]
    metadata = asyncio.run(attestor.metadata(results, {}))
    assert sorted(metadata) == [f"{METADATA}/a", f"{METADATA}/b"]
