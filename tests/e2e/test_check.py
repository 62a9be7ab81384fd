"""Checks that need to know a base image."""

from __future__ import annotations

from pathlib import Path

from tests.harness import Pybuild

FROM_BASE = "FROM base\nCOPY $FROM_BASE $NOWHERE /\nCMD x\n"


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
