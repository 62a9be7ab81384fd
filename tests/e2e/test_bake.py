"""Many targets are built with one command: what is equal runs once, and some read others' results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import Pybuild, write

pytestmark = pytest.mark.slow

DEFINITION = """
variable "TAG" { default = "v1" }
group "default" { targets = ["app", "web"] }
target "lib" { context = "lib" }
target "app" {
  context = "app"
  contexts = { lib = "target:lib" }
  matrix = { v = ["1", "2"] }
  name = "app-${v}"
  args = { V = v }
  tags = ["app:${v}-${TAG}"]
}
target "web" {
  context = "web"
  contexts = { lib = "target:lib" }
  output = ["type=local,dest=out"]
}
"""


@pytest.fixture
def monorepo(tmp_path: Path, base: str) -> Path:
    """A definition of three targets, two of which read the result of a fourth."""
    root = tmp_path / "monorepo"
    write(root, **{"docker-bake.hcl": DEFINITION})
    write(
        root / "lib",
        Dockerfile=f"FROM {base}\nCOPY f /lib\nRUN echo lib >> /lib && cat /proc/sys/kernel/random/uuid > /made\n",
        f="f of lib\n",
    )
    write(
        root / "app",
        Dockerfile="FROM lib\nARG V\nCOPY f /app\nRUN cat /lib /app > /both && echo $V >> /both\n",
        f="f of app\n",
    )
    write(
        root / "web",
        Dockerfile="FROM scratch\nCOPY --from=lib /lib /made /\nCOPY f /f\n",
        f="f of web\n",
    )
    return root


def cat(pybuild: Pybuild, image: str, path: str) -> str:
    return pybuild("run", "--rm", "--network", "none", image, "cat", path).out


def test_targets_read_the_results_of_others_whose_steps_run_once(
    pybuild: Pybuild, monorepo: Path
) -> None:
    done = pybuild("bake", "--progress", "plain", "--metadata-file", "m.json", cwd=monorepo)
    assert cat(pybuild, "app:1-v1", "/both") == "f of lib\nlib\nf of app\n1\n"
    assert cat(pybuild, "app:2-v1", "/both") == "f of lib\nlib\nf of app\n2\n"
    assert (monorepo / "out" / "lib").read_text() == "f of lib\nlib\n"
    assert (monorepo / "out" / "f").read_text() == "f of web\n"
    made = {cat(pybuild, image, "/made") for image in ("app:1-v1", "app:2-v1")}
    assert made == {(monorepo / "out" / "made").read_text()}
    assert "[app-2 2/2] RUN cat /lib" in done.err
    assert done.err.splitlines()[-2].startswith("app-1: docker.io/library/app:1-v1 (")
    metadata = json.loads((monorepo / "m.json").read_text())
    assert sorted(metadata) == ["app-1", "app-2", "web"]
    assert metadata["app-1"]["image.name"] == "docker.io/library/app:1-v1"
    names = pybuild("images", "--format", "{{.Repository}}").out.split()
    assert "lib" not in names


def test_a_file_that_one_target_reads_makes_no_other_run_again(
    pybuild: Pybuild, monorepo: Path
) -> None:
    pybuild("bake", cwd=monorepo)
    (monorepo / "app" / "f").write_text("other\n")
    done = pybuild("bake", "--progress", "plain", cwd=monorepo)
    lines = [line for line in done.err.splitlines() if line.startswith("#") and "] " in line]
    numbers = {line.split()[0]: line for line in lines}
    cached = {line.split()[0] for line in done.err.splitlines() if line.endswith(" CACHED")}
    ran = {line for number, line in numbers.items() if number not in cached}
    assert not any("RUN echo lib" in line or "COPY --from=lib" in line for line in ran)
    assert sum("RUN cat /lib" in line for line in ran) == 2


def test_a_target_gives_the_same_image_alone_and_with_others(
    pybuild: Pybuild, monorepo: Path
) -> None:
    pybuild("bake", cwd=monorepo, env={"SOURCE_DATE_EPOCH": "7"})
    together = pybuild("inspect", "-f", "{{.Id}}", "app:1-v1").out
    pybuild("bake", "app-1", "--var", "TAG=alone", cwd=monorepo, env={"SOURCE_DATE_EPOCH": "7"})
    assert pybuild("inspect", "-f", "{{.Id}}", "app:1-alone").out == together


def test_a_target_that_fails_ends_the_others_and_is_named(pybuild: Pybuild, monorepo: Path) -> None:
    write(monorepo / "web", Dockerfile="FROM lib\nRUN exit 3\n", f="")
    done = pybuild("bake", cwd=monorepo, code=1)
    assert "error: target web: " in done.err
    assert "RUN exit 3" in done.err


def test_secrets_of_a_target_reach_the_steps_of_those_that_read_it(
    pybuild: Pybuild, tmp_path: Path, base: str
) -> None:
    write(
        tmp_path / "c",
        **{
            "docker-bake.hcl": """
                target "lib" {
                  dockerfile = "lib.Dockerfile"
                  secret = ["id=token,env=TOKEN"]
                }
                target "app" {
                  contexts = { lib = "target:lib" }
                  output = ["type=local,dest=out"]
                }
            """,
            "lib.Dockerfile": f"FROM {base}\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n\n",
            "Dockerfile": "FROM scratch\nCOPY --from=lib /n /\n",
        },
    )
    env = {"TOKEN": "sesame-open"}
    pybuild("bake", "app", "--progress", "plain", cwd=tmp_path / "c", env=env)
    assert (tmp_path / "c" / "out" / "n").read_text().strip() == "11"


def test_a_compose_file_is_baked(pybuild: Pybuild, tmp_path: Path, base: str) -> None:
    write(
        tmp_path / "c",
        **{
            "compose.yaml": f"""
services:
  web:
    image: web:${{TAG:-one}}
    build:
      dockerfile_inline: |
        FROM {base}
        ARG A
        RUN echo $$A > /a
      args: {{A: from-compose}}
  db: {{image: postgres}}
"""
        },
    )
    pybuild("bake", cwd=tmp_path / "c", env={"TAG": "two"})
    assert cat(pybuild, "web:two", "/a") == "from-compose\n"
    pybuild("buildx", "bake", "--set", "web.tags=web:three", "web", cwd=tmp_path / "c")
    assert cat(pybuild, "web:three", "/a") == "from-compose\n"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("nosuch",), 1, "failed to find target nosuch"),
        (("--list", "all"), 2, 'invalid --list "all"'),
        (("-f", "nosuch.hcl"), 1, "cannot read nosuch.hcl: no such file"),
        (("--set", "app-1.nosuch=1"), 2, "unknown key: nosuch"),
        (("--set", "*.context=.."), 1, "--allow=fs.read=.."),
        (("--var", "=x"), 2, "invalid variable"),
        (("https://git.example/x.git",), 2, "a definition elsewhere is not read"),
        (("--set", "app-1.tags=UPPER"), 2, 'invalid tag "UPPER"'),
    ],
)
def test_what_cannot_be_baked_is_refused_before_anything_runs(
    pybuild: Pybuild, monorepo: Path, words: tuple[str, ...], code: int, problem: str
) -> None:
    done = pybuild("bake", *words, cwd=monorepo, code=code)
    assert done.err.startswith("error: ")
    assert problem in done.err
    assert "hint: " in done.err or problem.startswith(("cannot", "invalid variable"))
    assert not (monorepo / "out").exists()


def test_nothing_is_needed_to_print_a_definition(tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "store")
    done = pybuild("bake", cwd=tmp_path, code=1)
    assert done.err.startswith("error: couldn't find a bake definition\nhint: ")
    write(tmp_path, **{"docker-bake.hcl": DEFINITION})
    printed = json.loads(pybuild("bake", "--print", "web", cwd=tmp_path).out)
    assert printed["group"] == {"default": {"targets": ["web"]}}
    assert list(printed["target"]) == ["lib", "web"]
    assert "default" in pybuild("bake", "--list=targets", cwd=tmp_path).out
    assert not (tmp_path / "store").exists()
    read = pybuild(
        "bake", "-f", "-", "--print", cwd=tmp_path, stdin=b'target "default" { tags = ["x"] }\n'
    )
    assert json.loads(read.out)["target"]["default"]["tags"] == ["x"]


def test_a_build_server_builds_targets_that_read_no_others(
    pybuild: Pybuild, monorepo: Path
) -> None:
    done = pybuild("bake", "-H", "unix:///nonexistent/s.sock", cwd=monorepo, code=2)
    assert "reads the result of another" in done.err
