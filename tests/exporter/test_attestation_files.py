"""Attestations as files of a directory or an archive [OUT-16]."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.executor.files.values import ExportTree
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.write import attestation_files, with_files
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from tests.daemon.peers import open_store

ARM = Platform(os="linux", arch="arm", variant="v7")


def attestation(path: str, **options: Any) -> Attestation:
    async def predicate() -> object:
        return {"of": path}

    return Attestation(path=path, predicate_type="p", predicate=predicate, **options)


def files(
    *attestations: Attestation, prefix: str = "", platform: Platform | None = None
) -> dict[str, Any]:
    """Return the files of a result in which there are two, parsed."""

    async def read_tree(_function: object, deltas: Sequence[str]) -> list[tuple[str, str]]:
        assert deltas == ["d"]
        return [("a", "00"), ("b/c", "11")]

    engine = cast(Any, SimpleNamespace(read_tree=read_tree))
    made = asyncio.run(
        attestation_files(engine, ["d"], attestations, prefix=prefix, platform=platform)
    )
    return {name: json.loads(data) for name, data in made.items()}


def test_files_are_about_all_files_of_the_result_and_the_core_comes_first() -> None:
    made = files(attestation("x/stage.json"), attestation("sbom.json", is_core=True))
    assert list(made) == ["sbom.json", "stage.json"]
    subjects = [
        {"name": "a", "digest": {"sha256": "00"}},
        {"name": "b/c", "digest": {"sha256": "11"}},
    ]
    assert made["stage.json"]["subject"] == subjects
    assert made["stage.json"]["predicate"] == {"of": "x/stage.json"}


def test_what_is_for_images_alone_is_no_file() -> None:
    assert files() == files(attestation("a.json", inline_only=True)) == {}
    assert list(files(attestation("a.json", inline_only=True), attestation("b.json"))) == ["b.json"]


@pytest.mark.parametrize(
    ("prefix", "platform", "name"),
    [
        ("", None, "a.json"),
        ("p-", None, "p-a.json"),
        ("", ARM, "a.linux_arm_v7.json"),
        ("p-", ARM, "p-a.linux_arm_v7.json"),
    ],
)
def test_names_say_what_they_belong_to(prefix: str, platform: Platform | None, name: str) -> None:
    assert list(files(attestation("a.json"), prefix=prefix, platform=platform)) == [name]


@pytest.mark.parametrize(
    ("paths", "prefix", "message"),
    [
        (["a.json", "b/a.json"], "", "duplicate attestation path name a.json"),
        (["a.json"], "p/", '"p/a.json": expected a name without directories'),
        (["b/"], "", '"": expected a name'),
        (["b/."], "", r'"\.": expected a name'),
        (["b/.."], "", r'"\.\.": expected a name'),
    ],
)
def test_a_name_that_cannot_be(paths: list[str], prefix: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        files(*map(attestation, paths), prefix=prefix)


@pytest.mark.parametrize("epoch", [None, 5])
def test_files_lie_at_the_top_of_a_tree_until_it_is_written(
    tmp_path: Path, epoch: int | None
) -> None:
    async def work() -> None:
        with open_store(tmp_path) as store:
            engine = cast(Any, SimpleNamespace(store=store))
            tree = ExportTree(lowers=["l"], mount_dir="", userxattr=False, epoch=epoch)
            async with with_files(engine, tree, {}) as same:
                assert same is tree
            async with with_files(engine, tree, {"f": b"1"}) as larger:
                lower, folder = larger.lowers
                assert (lower, tree.lowers) == ("l", ["l"])
                found = os.stat(os.path.join(folder, "f"))
                assert Path(folder, "f").read_bytes() == b"1"
                assert (found.st_mode & 0o777, os.stat(folder).st_mode & 0o777) == (0o644, 0o755)
                assert (found.st_mtime == 5) is (epoch == 5)
            assert not os.path.exists(folder)

    asyncio.run(work())
