"""The bytes of a push, counted on the wire (issue: registries)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.counting import relay
from tests.harness import Pybuild, write
from tests.needs import needs
from tests.services import start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]


def test_one_changed_layer_moves_hardly_more_than_itself(pybuild: Pybuild, tmp_path: Path) -> None:
    """At most 1.05 times its bytes, everything counted: questions, answers, config and manifest."""
    dice = random.Random(5)
    context = write(
        tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY base /\nCOPY lib /\nCOPY app /\n"
    )
    for name, size in (("base", 3_000_000), ("lib", 700_000), ("app", 600_000)):
        (context / name).write_bytes(dice.randbytes(size))
    with start_registry(tmp_path) as registry, relay(int(registry.host.rpartition(":")[2])) as way:
        name = f"127.0.0.1:{way.port}/team/app:1"
        meta = tmp_path / "meta.json"
        words = ["--push", "-t", name, "--metadata-file", str(meta), str(context)]
        pybuild("build", *words)
        first = way.moved
        assert first > 4_300_000
        (context / "app").write_bytes(dice.randbytes(600_000))
        pybuild("build", *words)
        moved = way.moved - first
        inspected = json.loads(pybuild("imagetools", "inspect", "--raw", name).out)
        layer = inspected["layers"][-1]["size"]
        assert 600_000 <= layer <= moved <= 1.05 * layer, f"{moved / layer:.4f} of {layer} bytes"
        print(f"moved {moved} bytes for a layer of {layer}: {moved / layer:.4f}")


def test_a_large_layer_is_sent_while_it_is_made(pybuild: Pybuild, tmp_path: Path) -> None:
    """And only once. What the registry has at the end is not sent again either."""
    data = random.Random(6).randbytes(30_000_000)
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY big small /\n", small="s\n")
    (context / "big").write_bytes(data)
    with start_registry(tmp_path) as registry, relay(int(registry.host.rpartition(":")[2])) as way:
        names = [f"127.0.0.1:{way.port}/team/{word}:1" for word in ("one", "two")]
        pybuild("build", "--push", *(f"-t{name}" for name in names), str(context))
        assert 30_000_000 < way.moved < 1.01 * 30_000_000
        asked = registry.log.read_text()
        assert asked.count("http.request.method=PATCH") == 1
        (context / "small").write_text("t\n")
        pybuild("build", "--push", "-t", names[1], str(context))
        assert registry.log.read_text().count("http.request.method=PATCH") == 2
        for name in names:
            pybuild("rmi", "--force", name)
            pybuild(
                "build", "--output", str(tmp_path / "out"), "-", stdin=f"FROM {name}\n".encode()
            )
            assert (tmp_path / "out/big").read_bytes() == data
