"""A definition may not read, write or run what nobody has allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.bake.allowances import Allowances, check
from pybuild.bake.prepare import cleaned
from pybuild.bake.target import Target
from pybuild.model.errors import UsageError, UserError
from tests.bake.scopes import definition


def target(fields: str) -> Target:
    made = definition(f'target "a" {{\n{fields}\n}}\n')
    return cleaned(made.select(["a"], (), dict[str, str]().get), {}).targets["a"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "other").mkdir()
    (inside / "link").symlink_to("../other")
    monkeypatch.chdir(inside)
    return inside


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ('context = "sub"', []),
        ('context = "../other"', ["fs.read=../other"]),
        ('context = "link"', ["fs.read=../other"]),
        ('dockerfile = "../Dockerfile"', ["fs.read=../Dockerfile"]),
        ('contexts = { x = "../other" }', ["fs.read=../other"]),
        ('contexts = { x = "docker-image://alpine", y = "https://a.example/x.git" }', []),
        ('context = "https://git.example/x.git"', []),
        ('secret = ["id=a,src=../other/s", "id=b,env=B"]', ["fs.read=../other/s"]),
        ('cache-from = ["type=local,src=../other"]', ["fs.read=../other"]),
        ('cache-to = ["type=local,dest=../other"]', ["fs.write=../other"]),
        ('output = ["../other", "type=tar,dest=-"]', ["fs.write=../other"]),
        ('output = ["type=local,dest=o,mode=delete"]', ["buildx.local.delete"]),
        ('ssh = ["default"]', ["ssh"]),
        ('ssh = ["k=../other/k"]', ["fs.read=../other/k"]),
        ('network = "host"', ["network.host"]),
        ('entitlements = ["security.insecure", "device=a"]', ["security.insecure", "device=a"]),
    ],
)
def test_what_a_target_asks_for_is_named_with_the_flag_that_allows_it(
    folder: Path, fields: str, missing: list[str]
) -> None:
    assert folder
    asked = target(fields)
    assert Allowances().missing(asked) == missing
    allowed = Allowances.parse(missing)
    assert not allowed.missing(asked)
    check([asked], allowed, {})
    if missing:
        with pytest.raises(UserError) as caught:
            check([asked], Allowances(), {})
        assert all(f"--allow={one}" in caught.value.hints[0] for one in missing)


def test_files_may_be_left_out_of_the_questions_but_no_rights_of_steps(folder: Path) -> None:
    assert folder
    asked = target('context = "../other"\nnetwork = "host"')
    with pytest.raises(UserError) as caught:
        check([asked], Allowances(), {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"})
    assert caught.value.hints == ("to grant them: pybuild bake --allow=network.host",)
    assert not Allowances.parse(["fs=*", "network.host"]).missing(asked)


@pytest.mark.parametrize("value", ["nosuch", "network.host=1", "fs.reed=/x"])
def test_a_right_that_is_not_there_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="unknown entitlement"):
        Allowances.parse([value])
