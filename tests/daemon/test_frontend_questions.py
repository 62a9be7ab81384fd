"""Questions to a frontend in place of a build, and the protocol's words in their answers [6, 7.2]."""

from __future__ import annotations

import asyncio
import json

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.wirerules import in_protocol_words
from pybuild.builds.verdicts import in_place
from pybuild.daemon.frontend.attrs import Attrs
from pybuild.daemon.frontend.definition import ReadDockerfile
from pybuild.daemon.frontend.parsing import parse
from pybuild.daemon.frontend.subrequests import UnknownRequest, answer_subrequest, check_request
from pybuild.frontend.lowering.interface import LowerOptions, NeedImages
from pybuild.frontend.question import Outcomes
from pybuild.model.digest import Digest
from pybuild.model.events import BuildWarning
from pybuild.model.platform import LINUX_AMD64
from pybuild.net.grpc.status import Code, RpcError


def test_requests_are_read_or_refused() -> None:
    assert parse(pb.SolveRequest(), b"").Frontend == ""
    for data, code in ((None, Code.INTERNAL), (b"\xff", Code.INVALID_ARGUMENT)):
        with pytest.raises(RpcError) as caught:
            parse(pb.SolveRequest(), data)
        assert caught.value.code is code


async def nobody(need: NeedImages) -> Outcomes:
    raise AssertionError(need)


def answered(request: str, text: bytes = b"") -> dict[str, str]:
    definition = ReadDockerfile(
        data=text, filename="Dockerfile", lines=(), vertex=Digest.of(b""), context=None,
        excludes={}, contexts={}, context_trees={},
    )  # fmt: skip
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    result = asyncio.run(
        answer_subrequest(Attrs(request=request), definition, options, nobody, in_place)
    )
    assert result.single is None and result.many is None
    return {name: value.decode() for name, value in result.metadata.items()}


def test_the_questions_that_there_are_are_listed() -> None:
    found = answered("frontend.subrequests.describe")
    assert found["version"] == "1.0.0" and "result.statuscode" not in found
    items = json.loads(found["result.json"])
    names = [
        "frontend.lint",
        "frontend.outline",
        "frontend.subrequests.describe",
        "frontend.targets",
    ]
    assert [item["name"] for item in items] == names
    assert {item["type"] for item in items} == {"rpc"}
    assert items[0]["metadata"] == [{"name": "result.json"}, {"name": "result.txt"}]
    lines = found["result.txt"].splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "DESCRIPTION"] and len(lines) == 5
    assert lines[1].split(maxsplit=2) == ["frontend.lint", "1.0.0", items[0]["description"]]


def test_a_check_says_whether_there_is_something_to_mend() -> None:
    assert answered("frontend.lint", b"FROM scratch\n")["result.statuscode"] == "0"
    found = answered("frontend.lint", b"FROM scratch AS Base\n")
    assert found["result.statuscode"] == "1"
    (warning,) = json.loads(found["result.json"])["warnings"]
    assert warning["ruleName"] == "StageNameCasing"
    assert warning["url"] == "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
    assert warning["description"] == "Stage names should be lowercase"


def test_targets_are_those_of_the_file() -> None:
    found = answered("frontend.targets", b"FROM scratch AS one\nFROM one AS two\n")
    targets = json.loads(found["result.json"])["targets"]
    assert [one["name"] for one in targets] == ["one", "two"]
    assert "result.statuscode" not in found


def test_a_question_that_there_is_not_is_named() -> None:
    for name in ("", "frontend.lint", "frontend.outline", "frontend.targets"):
        check_request(name)
    with pytest.raises(UnknownRequest, match="unsupported request frontend.x") as caught:
        check_request("frontend.x")
    assert caught.value.name == "frontend.x"


@pytest.mark.parametrize(
    ("rule", "page"),
    [
        ("StageNameCasing", "stage-name-casing"),
        ("JSONArgsRecommended", "json-args-recommended"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed"),
    ],
)
def test_rules_have_the_pages_of_the_reference(rule: str, page: str) -> None:
    told = in_protocol_words(BuildWarning(message="m", rule=rule, url="ours", detail=("ours",)))
    assert told.url == f"https://docs.docker.com/go/dockerfile/rule/{page}/"
    assert told.detail != ("ours",) and (told.rule, told.message) == (rule, "m")


def test_a_rule_without_a_page_has_no_address() -> None:
    told = in_protocol_words(BuildWarning(message="m", rule="InvalidBaseImagePlatform", url="ours"))
    assert told.url == "" and told.detail
    other = BuildWarning(message="m", rule="Ours", url="ours", detail=("d",))
    assert in_protocol_words(other) is other
