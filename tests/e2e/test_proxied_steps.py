"""Builds whose steps reach nothing but a proxy: policies, provenance and trees [POL-1, ATT-2, DMN-1]."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Generator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import sourcepolicy
from pybuild.client.filesend import ToDirectory, file_send
from pybuild.client.filesync import file_sync
from pybuild.net.grpc.status import RpcError
from tests.daemon.buildsites import Built, Client, Daemon, client, daemon, pybuild_with_base
from tests.harness import Pybuild, write
from tests.needs import needs

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
FETCH = "wget -q -O /f"


class Handler(BaseHTTPRequestHandler):
    """Answers with the path."""

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    return pybuild_with_base(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def near(built: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    """A server whose steps have this machine's network: the site is on its loopback."""
    where = tmp_path_factory.mktemp("near")
    config = where / "buildkitd.toml"
    config.write_text('[worker.oci]\nnetworkMode = "host"\n')
    with daemon(built, where, "--config", str(config)) as server:
        yield server


def solve(
    server: Daemon,
    context: Path,
    *,
    proxied: bool = True,
    output: Path | None = None,
    attrs: Mapping[str, str] | None = None,
    rules: tuple[sourcepolicy.Rule, ...] = (),
) -> Built:
    heard = Built()

    async def run() -> None:
        offered = file_sync({"context": str(context), "dockerfile": str(context)})
        given = {"image-resolve-mode": "local", **(attrs or {})}
        request = pb.SolveRequest(
            Frontend="dockerfile.v0", FrontendAttrs=given, ProxyNetwork=proxied
        )
        if rules:
            request.SourcePolicy.CopyFrom(sourcepolicy.Policy(rules=rules))
        if output is not None:
            offered = {**offered, **file_send({0: ToDirectory(str(output))})}
            request.Exporters.extend([pb.Exporter(Type="local", Attrs={})])
        async with client(server.address) as connected:
            await Client.solve(connected, request, offered, heard)

    try:
        asyncio.run(run())
    except RpcError as error:
        error.add_note(heard.logs.decode(errors="replace"))
        raise
    return heard


def dockerfile(where: Path, *lines: str) -> Path:
    return write(where, Dockerfile="\n".join(["FROM base:1", *lines, ""]))


def log_of(built: Built) -> str:
    return built.logs.decode()


def test_a_step_reaches_the_proxy_and_nothing_else(near: Daemon, site: str, tmp_path: Path) -> None:
    straight = "env -u http_proxy -u HTTP_PROXY NO_PROXY= no_proxy="
    context = dockerfile(
        tmp_path / "c",
        f"RUN env no_proxy= {FETCH} {site}/a && ! {straight} wget -q -O- {site}/b",
        "RUN --network=none ! env | grep -i proxy",
    )
    heard = solve(near, context, output=tmp_path / "o")
    assert (tmp_path / "o/f").read_text() == "/a"
    assert f"proxy network requests:\n- GET {site}/a -> 200\n" in log_of(heard)
    assert "/b" not in log_of(heard)


def test_policies_have_a_say_in_each_request(near: Daemon, site: str, tmp_path: Path) -> None:
    deny = sourcepolicy.Rule(
        action=sourcepolicy.DENY, selector=sourcepolicy.Selector(identifier=f"{site}/denied*")
    )
    convert = sourcepolicy.Rule(
        action=sourcepolicy.CONVERT,
        selector=sourcepolicy.Selector(identifier=f"{site}/old"),
        updates=sourcepolicy.Update(identifier=f"{site}/new"),
    )
    context = dockerfile(
        tmp_path / "c",
        f"RUN env no_proxy= {FETCH} {site}/old && ! env no_proxy= wget -q -O- {site}/denied1",
    )
    heard = solve(near, context, output=tmp_path / "o", rules=(deny, convert))
    assert (tmp_path / "o/f").read_text() == "/new"
    assert f"- GET {site}/denied1 -> 403 (source " in log_of(heard)


def test_results_of_steps_with_a_proxy_are_found_by_builds_that_have_one_alone(
    near: Daemon, site: str, tmp_path: Path
) -> None:
    context = dockerfile(tmp_path / "c", f"RUN env no_proxy= {FETCH} {site}/cached")

    def was_cached(built: Built) -> bool:
        return next(v.cached for v in built.vertexes.values() if "RUN" in v.name)

    assert not was_cached(solve(near, context, proxied=False))
    assert not was_cached(solve(near, context))
    assert was_cached(solve(near, context))


def _provenance(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return found


def test_provenance_names_what_steps_fetched_also_where_they_were_cached(
    near: Daemon, site: str, tmp_path: Path
) -> None:
    context = dockerfile(tmp_path / "c", f"RUN env no_proxy= {FETCH} {site}/material", "RUN true")
    attrs = {"attest:provenance": "mode=max,version=v1"}
    expected = {
        "uri": f"{site}/material",
        "digest": {"sha256": hashlib.sha256(b"/material").hexdigest()},
    }
    for turn in ("first", "cached"):
        solve(near, context, output=tmp_path / turn, attrs=attrs)
        predicate = _provenance(tmp_path / turn)["predicate"]
        assert expected in predicate["buildDefinition"]["resolvedDependencies"]
        metadata = predicate["runDetails"]["metadata"]
        assert metadata["buildkit_metadata"]["network"] == {"mode": "proxy"}
        assert "buildkit_hermetic" not in metadata


def test_materials_that_have_to_be_complete_fail_the_build(
    near: Daemon, site: str, tmp_path: Path
) -> None:
    context = dockerfile(tmp_path / "c", f"RUN env no_proxy= wget -q -O- {site}/missing || true")
    attrs = {"attest:provenance": "mode=max,version=v1,complete-materials=true"}
    with pytest.raises(RpcError, match="provenance materials are incomplete"):
        solve(near, context, output=tmp_path / "o", attrs=attrs)


def test_the_tree_has_the_authority_while_the_step_runs_and_not_afterwards(
    near: Daemon, built: Pybuild, tmp_path: Path
) -> None:
    bundle = tmp_path / "base" / BUNDLE
    bundle.parent.mkdir(parents=True)
    bundle.write_text("# ours\n")
    write(tmp_path / "base", Dockerfile=f"FROM base:1\nCOPY {BUNDLE} /{BUNDLE}\n")
    built("build", "-t", "trusting:1", tmp_path / "base")
    seen = f"grep -q 'buildkit proxy CA begin' /{BUNDLE}"
    context = write(
        tmp_path / "c",
        Dockerfile=(
            f"FROM trusting:1 AS same\nRUN {seen} && touch /etc/made && stat -c %y /{BUNDLE} > /t\n"
            f"FROM trusting:1 AS changed\nRUN {seen} && echo '# more' >> /{BUNDLE}\n"
            f"FROM trusting:1 AS replaced\nRUN echo '# other' > /x && mv /x /{BUNDLE}\n"
            f"FROM trusting:1 AS gone\nRUN rm /{BUNDLE}\n"
            "FROM scratch\nCOPY --from=same / /same/\nCOPY --from=changed / /changed/\n"
            "COPY --from=replaced / /replaced/\nCOPY --from=gone / /gone/\n"
        ),
    )
    solve(near, context, output=tmp_path / "o")
    texts = {
        name: path.read_text() if (path := tmp_path / "o" / name / BUNDLE).exists() else None
        for name in ("same", "changed", "replaced", "gone")
    }
    assert texts == {
        "same": "# ours\n",
        "changed": "# ours\n# more\n",
        "replaced": "# other\n",
        "gone": None,
    }


def test_a_bundle_that_a_step_left_alone_is_in_no_layer(
    near: Daemon, built: Pybuild, tmp_path: Path
) -> None:
    bundle = tmp_path / "base" / BUNDLE
    bundle.parent.mkdir(parents=True)
    bundle.write_text("# ours\n")
    write(tmp_path / "base", Dockerfile=f"FROM base:1\nCOPY {BUNDLE} /{BUNDLE}\n")
    built("build", "-t", "trusting:2", tmp_path / "base")
    snapshots = Path(str(built.store)) / "snapshots"
    before = set(os.listdir(snapshots))
    context = write(tmp_path / "c", Dockerfile="FROM trusting:2\nRUN touch /etc/made\n")
    solve(near, context)
    (made,) = [
        delta
        for delta in set(os.listdir(snapshots)) - before
        if (snapshots / delta / "fs/etc/made").exists()
    ]
    assert os.listdir(snapshots / made / "fs/etc") == ["made"]


@needs("nft")
def test_by_default_the_proxy_does_not_reach_this_machine_s_own_services(
    built: Pybuild, site: str, tmp_path: Path
) -> None:
    context = dockerfile(
        tmp_path / "c", f"RUN ! env no_proxy= wget -q -O- {site}/loopback", "RUN true"
    )
    folder = tmp_path / "d"
    folder.mkdir()
    config = folder / "buildkitd.toml"
    config.write_text("proxyNetwork = true\n")
    with daemon(built, folder, "--config", str(config)) as server:
        heard = solve(server, context, proxied=False)
        shares = "steps share this machine's network" in log_of(heard)
    if shares:
        pytest.skip("steps can have no network of their own here")
    assert f"- GET {site}/loopback -> 502\n" in log_of(heard)
