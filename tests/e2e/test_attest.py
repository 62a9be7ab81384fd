"""Attestations of real builds: beside images, in directories and archives, and scans [ATT, OUT-16]."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = """\
FROM base AS tools
RUN --mount=type=secret,id=token echo made > /made

FROM base
ARG WHO
COPY --from=tools /made /
COPY file /
RUN echo "$WHO" > /who
"""
SCANNER = """\
FROM base
COPY scan.sh /
CMD ["sh", "/scan.sh"]
"""
SCAN = """\
set -e
say() {
  echo '{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://spdx.dev/Document",' \\
    '"predicate": {"name": "'"$1"'"}}' > "$BUILDKIT_SCAN_DESTINATION/$2.spdx.json"
}
say "$(cat "$BUILDKIT_SCAN_SOURCE/who") $BUILDKIT_SCAN_EXTRA" sbom
if [ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
  for one in "$BUILDKIT_SCAN_SOURCE_EXTRAS"*; do
    say "$(echo "$one"/*)" "${one##*/}"
  done
fi
"""
SECRET = "s3cr3t-value"


@pytest.fixture
def context(pybuild: Pybuild, base: str, tmp_path: Path) -> Path:
    return write(tmp_path / "ctx", Dockerfile=DOCKERFILE, file="f\n")


def blob(pybuild: Pybuild, digest: str) -> Any:
    return json.loads((pybuild.store / "blobs/sha256" / digest.partition(":")[2]).read_bytes())


def index_of(pybuild: Pybuild, name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(pybuild("inspect", "--raw", name).out)["manifests"]
    return entries


def statements(pybuild: Pybuild, entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [blob(pybuild, layer["digest"]) for layer in blob(pybuild, entry["digest"])["layers"]]


def test_provenance_stands_beside_an_image_whose_digest_it_does_not_change(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text(SECRET)
    words = ("--build-arg", "WHO=me", "--secret", f"id=token,src={secret}", context)
    pybuild("build", "-t", "plain", *words)
    pybuild("build", "-t", "app", "--provenance=mode=max,builder-id=https://b.example", *words)
    image, attested = index_of(pybuild, "app")
    plain = pybuild("inspect", "--oci", "plain").out
    assert json.loads(plain)["descriptor"]["digest"] == image["digest"]
    rows = [json.loads(line) for line in pybuild("images", "--format=json").out.splitlines()]
    ids = {row["repository"].rpartition("/")[2]: row["id"] for row in rows}
    assert ids["app"] == ids["plain"]
    assert attested["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attested["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    (statement,) = statements(pybuild, attested)
    assert SECRET not in json.dumps(statement)
    (subject,) = statement["subject"]
    assert subject["name"].startswith("pkg:docker/app@latest?platform=linux%2F")
    assert subject["digest"] == {"sha256": image["digest"].removeprefix("sha256:")}
    build, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    request = build["externalParameters"]["request"]
    assert request["args"]["build-arg:WHO"] == "me"
    assert request["secrets"] == [{"id": "token", "optional": True}]
    assert [local["name"] for local in request["locals"]] == ["context", "dockerfile"]
    (material,) = build["resolvedDependencies"]
    assert material["uri"].startswith("pkg:docker/base@latest?platform=linux%2F")
    assert run["builder"]["id"] == "https://b.example"
    metadata = run["metadata"]["buildkit_metadata"]
    steps = {
        step["id"]: step for step in build["internalParameters"]["buildConfig"]["llbDefinition"]
    }
    lines = {
        place["start"]["line"]
        for step, where in metadata["source"]["locations"].items()
        if step in steps
        for location in where["locations"]
        for place in location["ranges"]
    }
    assert lines > {2, 6, 7, 8}  # and a FROM: both are one step
    layers = blob(pybuild, image["digest"])["layers"]
    chains = [chain for (chain,) in metadata["layers"].values()]
    described = [(layer["digest"], layer["size"]) for layer in max(chains, key=len)]
    assert described == [(layer["digest"], layer["size"]) for layer in layers]


def test_directories_and_archives_get_files_and_their_digests(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY file /d/\n", file="f\n")
    folder, archive = tmp_path / "out", tmp_path / "out.tar"
    outputs = (
        *("-o", f"type=local,dest={folder},attestation-prefix=x-"),
        *("-o", f"type=tar,dest={archive}"),
    )
    pybuild("build", "--attest=type=provenance,mode=min,version=v0.2", *outputs, context)
    assert sorted(path.name for path in folder.iterdir()) == ["d", "x-provenance.json"]
    statement = json.loads((folder / "x-provenance.json").read_bytes())
    assert statement["predicateType"] == "https://slsa.dev/provenance/v0.2"
    (subject,) = statement["subject"]
    digest = subprocess.run(
        ["sha256sum", folder / "d/file"], capture_output=True, check=True, timeout=60
    ).stdout.split()[0]
    assert subject == {"name": "d/file", "digest": {"sha256": digest.decode()}}
    with tarfile.open(archive) as tar:
        assert {"d/file", "provenance.json"} <= {name.removeprefix("./") for name in tar.getnames()}
    pybuild("build", "--provenance=inline-only=true", *outputs[:2], context)
    pybuild("build", "--provenance=false", "-o", f"type=local,dest={tmp_path / 'bare'}", context)
    assert [path.name for path in (tmp_path / "bare").iterdir()] == ["d"]


def test_the_metadata_file_tells_provenance_in_short(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY file /d/\n", file="f\n")
    where = tmp_path / "metadata.json"
    words = ("--provenance=mode=max", "--build-arg=A=b", f"--metadata-file={where}", context)
    pybuild("build", *words)
    told = json.loads(where.read_bytes())["buildx.build.provenance"]["buildDefinition"]
    assert "args" not in told["externalParameters"]["request"]
    pybuild("build", *words, env={"BUILDX_METADATA_PROVENANCE": "max"})
    told = json.loads(where.read_bytes())["buildx.build.provenance"]["buildDefinition"]
    assert told["externalParameters"]["request"]["args"] == {"build-arg:A": "b"}
    assert told["internalParameters"]["buildConfig"]
    pybuild("build", *words, env={"BUILDX_METADATA_PROVENANCE": "disabled"})
    assert "buildx.build.provenance" not in json.loads(where.read_bytes())


def test_platforms_that_share_a_directory_have_files_of_their_own(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    text = "FROM scratch\nARG TARGETARCH\nCOPY file /f-$TARGETARCH\n"
    context = write(tmp_path / "ctx", Dockerfile=text, file="f\n")
    words = ("--provenance=true", "--platform=linux/amd64,linux/arm64", context)
    pybuild("build", "-o", f"type=local,dest={tmp_path / 'one'},platform-split=false", *words)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        *("f-amd64", "f-arm64"),
        *("provenance.linux_amd64.json", "provenance.linux_arm64.json"),
    }
    pybuild("build", "-t", "both", *words)
    amd64, arm64, *attested = index_of(pybuild, "both")
    assert [one["annotations"]["vnd.docker.reference.digest"] for one in attested] == [
        amd64["digest"],
        arm64["digest"],
    ]


def test_a_scanner_finds_the_result_and_the_stages_that_ask_for_it(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    scanner = write(tmp_path / "scanner", **{"Dockerfile": SCANNER, "scan.sh": SCAN})
    pybuild("build", "-t", "scanner", scanner)
    (context / "Dockerfile").write_text("ARG BUILDKIT_SBOM_SCAN_STAGE=tools\n" + DOCKERFILE)
    words = ("--build-arg", "WHO=me", "--sbom=generator=scanner,EXTRA=more", context)
    pybuild("build", "-t", "app", *words)
    _, attested = index_of(pybuild, "app")
    core, extra = statements(pybuild, attested)
    assert core["predicate"] == {"name": "me more"}
    assert core["subject"][0]["name"].startswith("pkg:docker/app@latest")
    assert "made" in extra["predicate"]["name"]
    pybuild("build", "-o", f"type=local,dest={tmp_path / 'out'}", *words)
    assert (tmp_path / "out/sbom.spdx.json").exists()
    assert (tmp_path / "out/sbom-tools.spdx.json").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("ln -s /etc/passwd $BUILDKIT_SCAN_DESTINATION/x.json", "x.json: not a regular file"),
        ("echo nothing > $BUILDKIT_SCAN_DESTINATION/x.json", "x.json: not valid JSON"),
        ("exit 3", "exit code: 3"),
    ],
)
def test_a_scanner_that_misbehaves_fails_the_build(
    pybuild: Pybuild, context: Path, tmp_path: Path, script: str, message: str
) -> None:
    scanner = write(tmp_path / "scanner", **{"Dockerfile": SCANNER, "scan.sh": script + "\n"})
    pybuild("build", "-t", "scanner", scanner)
    done = pybuild("build", "-t", "app", "--sbom=generator=scanner", context, code=None)
    assert done.code
    assert message in done.err
    assert "app" not in pybuild("images").out


def test_archives_for_docker_load_have_no_place_for_attestations(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    words = ("-o", f"type=docker,dest={tmp_path / 'a.tar'}", context)
    done = pybuild("build", "--provenance=true", *words, code=None)
    assert done.code
    assert "cannot export attestations" in done.err
    pybuild("build", "--provenance=inline-only=true", *words)


def test_without_a_name_the_scanner_is_that_of_buildkit(pybuild: Pybuild, context: Path) -> None:
    rule = {"action": "DENY", "selector": {"identifier": "docker-image://docker.io/docker/*"}}
    rules = context.parent / "rules.json"
    rules.write_text(json.dumps({"rules": [rule]}))
    words = ("--sbom=true", "--source-policy-file", rules, context)
    done = pybuild("build", *words, code=None)
    assert done.code
    assert "docker.io/docker/buildkit-syft-scanner:stable-1" in done.err


def test_the_repository_of_a_context_is_recorded_without_its_password(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "repo/ctx", Dockerfile="FROM scratch\nCOPY file /\n", file="f\n")
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://me:pass@h.example/r.git"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"],
    ):
        command = ["git", "-C", str(context.parent), *words]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    pybuild("build", "--provenance=mode=min", "-o", f"type=local,dest={tmp_path / 'out'}", context)
    statement = json.loads((tmp_path / "out/provenance.json").read_bytes())
    vcs = statement["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]["vcs"]
    assert vcs["source"] == "https://xxxxx:xxxxx@h.example/r.git"
    assert vcs["localdir:context"] == "ctx"
    assert len(vcs["revision"]) == 40
