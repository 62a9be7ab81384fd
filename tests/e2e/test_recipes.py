"""The recipes for CI systems: what they run is run here, with the variables that each system would set."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import ROOT, Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
RECIPES = ROOT / "recipes"
FILE = "FROM base AS deps\nARG V=1\nRUN echo $V > /v\nFROM deps\nLABEL a=b\n"


def shell(
    pybuild: Pybuild, tmp_path: Path, script: str, cwd: Path, *words: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as a job does: with ``pybuild`` on the path, and nothing of the tests."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "pybuild"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m pybuild "$@"\n')
    program.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-e", "-c", script, "script", *words],
        cwd=cwd,
        env={**pybuild.environment, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def image_of(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:

        def read(name: str) -> dict[str, Any]:
            file = tar.extractfile(name)
            assert file is not None
            return dict(json.load(file))

        def blob(descriptor: Mapping[str, str]) -> dict[str, Any]:
            return read("blobs/" + descriptor["digest"].replace(":", "/"))

        return blob(blob(read("index.json")["manifests"][0])["config"])


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write(tmp_path / "a context", Dockerfile=FILE)


def test_the_script_of_all_recipes_takes_any_words(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    """Values with blanks, quotes and dollars are values, never words or commands of the shell."""
    odd = 'it\'s $HOME `id` "x"; touch /nowhere'
    done = shell(
        pybuild,
        tmp_path,
        str(RECIPES / "build.sh"),
        tmp_path,
        CONTEXT=str(context),
        LABELS=f"odd={odd}\n\n  other=1\n",
        BUILD_ARGS="V=a b",
        OUTPUTS=f"type=oci,dest={tmp_path / 'i.tar'}",
        ARGUMENTS="--no-cache",
    )
    assert done.returncode == 0, done.stderr
    labels = image_of(tmp_path / "i.tar")["config"]["Labels"]
    assert labels == {"a": "b", "odd": odd, "other": "1"}


def test_the_github_action_builds_and_tells_digests(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    action = yaml.safe_load((RECIPES / "github/action.yml").read_text())
    build = next(step for step in action["runs"]["steps"] if step.get("id") == "build")
    given = {"context": str(context), "tags": "app:1", "build-args": "V=2", "cache": ""}
    env: dict[str, str] = {}
    for name, value in build["env"].items():
        field = value.removeprefix("${{ ").removesuffix(" }}")
        kind, _, key = field.partition(".")
        if kind == "inputs":
            env[name] = given.get(key, str(action["inputs"][key]["default"]))
    env |= {"ACTION": str(RECIPES / "github"), "RUNNER_TEMP": str(tmp_path)}
    env |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "page.md")}
    env["GITHUB_OUTPUT"] = str(tmp_path / "outputs")
    done = shell(pybuild, tmp_path, build["run"], tmp_path, **env)
    assert done.returncode == 0, done.stderr
    told = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert told["digest"].startswith("sha256:") and json.loads(told["metadata"])
    assert "built in" in (tmp_path / "page.md").read_text()
    assert pybuild("run", "--rm", "app:1", "cat", "/v").out == "2\n"
    outputs = action["outputs"].values()
    assert all(
        one["value"].removeprefix("${{ steps.build.outputs.")[:-3] in told for one in outputs
    )
    env |= {"REPORTS": str(tmp_path / "reports")}
    (context / "Dockerfile").write_text("FROM base\nRUN echo why > /why; exit 1\n")
    failed = shell(pybuild, tmp_path, build["run"], tmp_path, **env)
    assert failed.returncode == 1 and "::error file=" in failed.stderr
    assert (tmp_path / "reports/failed/why").read_text() == "why\n"
    assert 'failures="1"' in (tmp_path / "reports/pybuild-junit.xml").read_text()


def test_the_gitlab_component_builds_with_reports(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    spec, jobs = yaml.safe_load_all((RECIPES / "gitlab/template.yml").read_text())
    inputs = {name: one["default"] for name, one in spec["spec"]["inputs"].items()}
    inputs |= {"context": str(context), "push": "false", "cache": "", "package": ""}
    inputs["script"] = str(RECIPES / "build.sh")

    def filled(text: str) -> str:
        for name, value in inputs.items():
            text = text.replace(f"$[[ inputs.{name} ]]", value)
        return text

    ci = {"CI_REGISTRY_IMAGE": "registry.example/app", "CI_COMMIT_REF_SLUG": "main"}
    job = jobs["build-image"]
    variables = {name: filled(value) for name, value in job["variables"].items()}
    for name, value in ci.items():
        variables = {key: text.replace(f"${name}", value) for key, text in variables.items()}
    script = "\n".join(filled(line) for line in (*job["before_script"], *job["script"]))
    done = shell(pybuild, tmp_path, script, tmp_path, GITLAB_CI="true", **ci, **variables)
    assert done.returncode == 0, done.stderr
    assert "registry.example/app" in pybuild("images").out
    for path in job["artifacts"]["reports"].values():
        assert (tmp_path / path).exists()


def test_the_tekton_task_writes_its_results(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    task = yaml.safe_load((RECIPES / "tekton/task.yaml").read_text())
    (step,) = task["spec"]["steps"]
    given = {"IMAGE": "app:3", "CONTEXT": str(context), "PUSH": "false"}
    defaults = {one["name"]: one.get("default", "") for one in task["spec"]["params"]}
    env: dict[str, str] = {}
    for one in step["env"]:
        kind, name, *_ = one["value"].removeprefix("$(").removesuffix(")").split(".")
        value = given.get(name, defaults.get(name, ""))
        env[one["name"]] = str(tmp_path / name) if kind == "results" else str(value)
    done = shell(pybuild, tmp_path, step["script"], tmp_path, "V=7", "W=a b", **env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "IMAGE_DIGEST").read_text().startswith("sha256:")
    assert (tmp_path / "IMAGE_URL").read_text() == "app:3"
    assert pybuild("run", "--rm", "app:3", "cat", "/v").out == "7\n"


def test_the_jenkins_pipeline_builds(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    text = (RECIPES / "jenkins/Jenkinsfile").read_text()
    script = text.split("sh '''")[1].split("'''")[0].replace("recipes/", f"{RECIPES}/")
    env = {"IMAGE": "app:4", "CACHE": "", "PUSH": "false"}
    done = shell(pybuild, tmp_path, script, context, **env)
    assert done.returncode == 0, done.stderr
    assert (context / "reports/pybuild-junit.xml").exists()
    assert pybuild("run", "--rm", "app:4", "cat", "/v").out == "1\n"


def test_the_kubernetes_job_is_a_command_of_ours_without_privilege(
    pybuild: Pybuild, base: str, context: Path
) -> None:
    job = yaml.safe_load((RECIPES / "kubernetes/job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "privileged": False}
    words = [word for word in container["args"] if not word.startswith(("--cache", "--push"))]
    pybuild(*words[:-1], context)


def test_pre_commit_hooks_lint_and_check(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    """As pre-commit runs them: the entry's words, the arguments, the names of files."""
    lint, check = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    bad = write(tmp_path / "bad", Dockerfile="FROM base as x\nMAINTAINER me\n")

    def run(hook: dict[str, Any], cwd: Path, *files: str) -> int:
        words = [*shlex.split(hook["entry"]), *hook.get("args", []), *files]
        return shell(pybuild, tmp_path, shlex.join(words), cwd).returncode

    assert run(lint, context, "Dockerfile") == 0 and run(check, context) == 0
    assert run(lint, bad, "Dockerfile", "Dockerfile") == 1 and run(check, bad) == 1


def test_the_devcontainer_is_json() -> None:
    path = RECIPES / "devcontainer/.devcontainer/devcontainer.json"
    assert "pybuild-oci" in json.loads(path.read_text())["postCreateCommand"]


def test_a_link_at_kanikos_place_is_its_executor(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    link = tmp_path / "kaniko/executor"
    link.parent.mkdir()
    link.write_text(f"#!{sys.executable}\nfrom pybuild.cli import main\nmain()\n")
    link.chmod(0o755)
    words = [f"--context=dir://{context}", "--no-push", "--destination=app:5", "--build-arg=V=9"]
    words += [f"--tar-path={tmp_path / 'i.tar'}", f"--digest-file={tmp_path / 'digest'}"]
    done = subprocess.run(
        [link, *words],
        env=pybuild.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digest").read_text().startswith("sha256:")
    pybuild("load", "-i", tmp_path / "i.tar")
    assert pybuild("run", "--rm", "app:5", "cat", "/v").out == "9\n"
    refused = subprocess.run(
        [link, "--registry-mirror=m"],
        env=pybuild.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2 and "pybuild.toml" in refused.stderr
