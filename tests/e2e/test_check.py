"""Checks that need to know a base image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Pybuild
from tests.needs import needs
from tests.services import start_registry

FROM_BASE = "FROM base\nCOPY $FROM_BASE $NOWHERE /\nCMD x\n"


@pytest.mark.slow
def test_a_base_image_in_the_store_is_known_to_checks(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    file = context / "Dockerfile"
    file.write_text('FROM base\nENV FROM_BASE=1\nSHELL ["/bin/sh", "-c"]\n')
    pybuild("build", "-t", "derived", context)
    file.write_text(FROM_BASE.replace("base", "derived"))
    for words in (("build", "--check"), ("lint",)):
        done = pybuild(*words, context, code=1)
        assert done.out.count("WARNING") == 1
        assert "Usage of undefined variable '$NOWHERE'" in done.out
    file.write_text("FROM derived\nONBUILD ENV k v\n")
    pybuild("build", "-t", "trigger", context)
    file.write_text("FROM trigger\n")
    assert "LegacyKeyValueFormat" in pybuild("build", "--check", context, code=1).out


@pytest.mark.registry
@pytest.mark.slow
@needs("docker-registry")
def test_a_base_image_that_only_a_registry_has_is_asked_for(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    file = context / "Dockerfile"
    with start_registry(tmp_path) as registry:
        name = f"{registry.host}/derived:1"
        file.write_text("FROM base\nENV FROM_BASE=1\n")
        pybuild("build", "-t", name, "--push", context)
        stranger = Pybuild(tmp_path / "other-store")
        file.write_text(f"FROM {name}\nCOPY $FROM_BASE $NOWHERE /\n")
        # `lint` asks nobody, and cannot know what the base defines.
        assert stranger("lint", context).out == "Check complete, no warnings found.\n"
        done = stranger("build", "--check", context, code=1)
        assert (done.out.count("WARNING"), done.err) == (1, "")
        assert "Usage of undefined variable '$NOWHERE'" in done.out
    # What the check learnt is known from now on, also without the registry.
    assert stranger("lint", context, code=1).out == done.out
    assert stranger("build", "--check", context, code=1).out == done.out
