"""How much a push moves, counted on the wire (issue: registries)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.counting import relay
from tests.harness import Pybuild, write
from tests.services import has_registry, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    pytest.mark.skipif(not has_registry(), reason="docker-registry is not installed"),
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
