"""The output of ``search`` and ``tags``; their requests to a registry are tested in its room."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.commandline.parser import Parsed
from pybuild.commands import discover
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.registry.client.listing import SearchResult

FOUND = [
    SearchResult(
        name="python", description="Python is\n fun " + "x" * 60, stars=9_000, is_official=True
    ),
    SearchResult(name="me/python"),
]


class FakeClient:
    """Notes its questions."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def search(self, *question: object) -> list[SearchResult]:
        self.asked.append(question)
        return FOUND

    def tags(self, reference: Reference) -> list[str]:
        self.asked.append((str(reference),))
        return ["1", "2"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    client = FakeClient()

    def with_client(parsed: Parsed, work: Any) -> Any:
        return work(client)

    monkeypatch.setattr(discover, "with_client", with_client)
    return client.asked


def parsed(word: str, **values: str) -> Parsed:
    made = Parsed()
    made.positionals = [word]
    made.values = {name: [value] for name, value in values.items()}
    return made


def test_a_search_is_a_table(
    asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert discover.search(parsed("python")) == 0
    assert asked == [("docker.io", "python", 25)]
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert first.split()[-2:] == ["9000", "[OK]"]
    assert f"Python is fun {'x' * 35}…" in first
    assert second == "me/python"


@pytest.mark.parametrize(
    ("word", "host", "term"),
    [
        ("index.docker.io/x", "docker.io", "x"),
        ("r.example/x", "r.example", "x"),
        ("localhost/x", "localhost", "x"),
        ("host:5000/x/y", "host:5000", "x/y"),
        ("me/x", "docker.io", "me/x"),
        ("x.y", "docker.io", "x.y"),
    ],
)
def test_a_host_stands_before_the_term(
    asked: list[tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
    word: str,
    host: str,
    term: str,
) -> None:
    discover.search(parsed(word, limit="100", format="json"))
    assert asked == [(host, term, 100)]
    prefix = "" if host == "docker.io" else f"{host}/"
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [f"{prefix}python", f"{prefix}me/python"]
    assert [(row["stars"], row["official"]) for row in rows] == [(9_000, True), (None, False)]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", ""])
def test_a_limit_is_a_number_that_registries_take(
    asked: list[tuple[object, ...]], limit: str
) -> None:
    with pytest.raises(UsageError, match="expected 1 to 100"):
        discover.search(parsed("x", limit=limit))
    assert asked == []


def test_tags_are_lines_or_a_document(
    asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert discover.tags(parsed("r.example/x")) == 0
    assert capsys.readouterr().out == "1\n2\n"
    assert discover.tags(parsed("r.example/x", format="json")) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "r.example/x", "tags": ["1", "2"]}
    assert asked == [("r.example/x:latest",)] * 2
