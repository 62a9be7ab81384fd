"""Every option of ``pybuild build`` is an argument of `pybuild.build`, or has a reason not to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pybuild
from pybuild.api import BuildOptions
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.commandline.building import BUILD
from pybuild.engine.settings import Settings
from pybuild.model.errors import UsageError
from pybuild.model.options import STEP_FLAGS

# The arguments that are not named as their options are, or are several.
ARGUMENTS = {
    "annotation": "annotations",
    "build-arg": "build_args",
    "build-context": "build_contexts",
    "creds": "logins",
    "file": "dockerfile",
    "label": "labels",
    "modes": "git_modes",
    "output": "outputs",
    "secret": "secrets",
    "tag": "tags",
    "platform": "platforms",
    "volume": "volumes",
    **{option.name: "steps" for option in STEP_FLAGS},
}
NOT_IN_PYTHON = {
    "authfile": "a file of the whole process: $REGISTRY_AUTH_FILE; logins= is one build's",
    "builder": "a build server has a client of its own; this is the engine of this process",
    "call": "asks about a file and builds nothing",
    "check": "asks about a file and builds nothing",
    "cluster": "a command coordinates; the API builds in its own process",
    "compress": "does nothing, and is accepted for those who write it by habit",
    "debug": "exceptions have their tracebacks",
    "explain": "BuildResult.report",
    "force-rm": "does nothing, and is accepted for those who write it by habit",
    "help": "help(pybuild.build)",
    "host": "a build server has a client of its own; this is the engine of this process",
    "iidfile": "BuildResult.image_id",
    "metadata-file": "BuildResult.metadata",
    "no-background": "the API leaves no process behind",
    "break": "stops for a person at a terminal",
    "on-fail": "a program is no person: it has the error, and calls again",
    "on-fail-container": "a container is made by the command; on_fail_output= copies files out",
    "progress": "on_event=",
    "quiet": "on_event=, which is quiet unless it is given",
    "rm": "does nothing, and is accepted for those who write it by habit",
    "tlscacert": "of --host",
    "tlscert": "of --host",
    "tlskey": "of --host",
    "tlsservername": "of --host",
}
ONLY_IN_PYTHON = {
    "on_event": "--progress and --quiet show what is given to it",
    "secrets_in_key": "key=true of --secret",
}


def test_every_option_is_an_argument_or_has_a_reason_not_to_be() -> None:
    options = {option.name for option in BUILD.options}
    arguments = {
        ARGUMENTS.get(name, name.replace("-", "_")) for name in options - NOT_IN_PYTHON.keys()
    }
    assert arguments | ONLY_IN_PYTHON.keys() == get_type_hints(BuildOptions).keys()
    assert NOT_IN_PYTHON.keys() <= options and ARGUMENTS.keys() <= options


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BuildRequest, Settings]]:
    """The requests and settings that builds would have begun with."""
    begun: list[tuple[BuildRequest, Settings]] = []

    async def run(request: BuildRequest, settings: Settings, *_: object) -> BuildResult:
        begun.append((request, settings))
        return BuildResult(image=None, image_id=None, names=(), steps=())

    monkeypatch.setattr("pybuild.api.run_request", run)
    return begun


def test_arguments_mean_what_the_options_mean(
    requested: list[tuple[BuildRequest, Settings]], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"rules": [{"action": "DENY", "selector": {"identifier": "*"}}]}')
    config = tmp_path / "config.toml"
    config.write_text("durable = true\n")
    pybuild.build(
        tmp_path,
        tags=["registry.example/app:1"],
        push=True,
        load=True,
        provenance=True,
        sbom=False,
        cache=[str(tmp_path / "cache")],
        source_policy_file=policy,
        logins={"registry.example": "me:word:with:colons"},
        runtime="crun",
        cache_max="1GB",
        config=config,
        root=tmp_path / "store",
    )
    ((request, settings),) = requested
    assert [output.type for output in request.outputs] == ["registry"]
    assert request.load is not None and request.load.type == "image"
    assert request.attestations is not None and request.attestations.sbom is None
    assert len(request.cache_to) == 1 and request.cache_from and request.git_modes
    assert request.policies is not None
    assert request.logins["registry.example"].password == "word:with:colons"
    assert settings.root == str(tmp_path / "store") and settings.durable
    assert (settings.runtime, settings.cache_max) == ("crun", "1GB")


def test_without_arguments_the_defaults_are_those_of_the_command(
    requested: list[tuple[BuildRequest, Settings]], tmp_path: Path
) -> None:
    pybuild.build(tmp_path, root=tmp_path)
    ((request, _),) = requested
    assert request == BuildRequest(context=str(tmp_path))
    pybuild.build(tmp_path, git_modes=False, cache=["./x"], root=tmp_path)
    assert not requested[1][0].git_modes


@pytest.mark.parametrize("name", ["cache", "ca", "volumes", "secrets_in_key", "tags"])
def test_a_text_in_the_place_of_a_list_is_refused(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {name: "text"}
    with pytest.raises(UsageError, match=f"{name}: expected a list of strings"):
        pybuild.build(tmp_path, **options)


def test_what_is_pushed_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tag is needed when pushing"):
        pybuild.build(tmp_path, push=True)
    with pytest.raises(UsageError, match="policy"):
        pybuild.build(tmp_path, source_policy_file=tmp_path / "none")
