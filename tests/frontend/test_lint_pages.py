"""Every rule has a page, and the page says the truth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from pybuild.cli import main
from pybuild.frontend.check import Checked, FileCheck
from pybuild.frontend.lint.catalogue import RULES
from pybuild.frontend.lint.mends import mend
from pybuild.frontend.lint.rulepages import page
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.model.advice import ADVICE
from pybuild.model.platform import LINUX_AMD64, Platform
from tests.frontend.lowering import image, resolve

FOLDER = Path(__file__).resolve().parents[2] / "frontend/lint/pages"


@dataclass(frozen=True)
class Page:
    """The examples of a page; *ignore* is the ignore file of the bad one, *args* its build args."""

    output: str
    reason: str
    bad: bytes
    good: bytes
    ignore: tuple[str, ...]
    args: dict[str, str]
    mends: str


def read(rule: str) -> Page:
    text = (FOLDER / f"{rule}.md").read_text(encoding="utf-8")
    title, *rest = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert title.strip() == f"# {rule}"
    parts = dict(zip(rest[::2], rest[1::2], strict=True))
    assert list(parts)[:4] == ["Output", "Reason", "Bad", "Good"]
    assert set(parts) <= {"Output", "Reason", "Bad", "Good", "`pybuild lint --fix`"}
    (output,) = re.findall(r"^```text\n(.+?)\n```$", parts["Output"], re.MULTILINE | re.DOTALL)
    bad, good = (
        re.findall(r"^```dockerfile\n(.+?)^```$", parts[name], re.MULTILINE | re.DOTALL)
        for name in ("Bad", "Good")
    )
    ignore = re.findall(r"^```gitignore\n(.+?)\n```$", parts["Bad"], re.MULTILINE | re.DOTALL)
    args = re.findall(r"--build-arg (\w+)=(\S+)", parts["Bad"])
    return Page(
        output=output,
        reason=parts["Reason"].strip(),
        bad=bad[0].encode(),
        good=good[0].encode(),
        ignore=tuple(ignore),
        args=dict(args),
        mends=parts.get("`pybuild lint --fix`", "").strip(),
    )


def check(page: Page, data: bytes, *, args: dict[str, str]) -> Checked:
    """Check an example; all images exist, one of them only for another platform."""
    options = LowerOptions(
        target_platform=LINUX_AMD64,
        build_platform=LINUX_AMD64,
        build_args=args,
        local_excludes={"context": page.ignore},
    )
    one = FileCheck(data, "Dockerfile", options)
    known: dict[ImageRequest, ResolvedImage] = {}
    while isinstance(found := one.run(known), NeedImages):
        for request in found.requests:
            is_odd = "arm-only" in request.reference.familiar
            platform = Platform("linux", "arm64") if is_odd else request.platform
            known[request] = resolve(request, image(platform=platform))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_bad_fires_the_rule_and_good_nothing(rule: str) -> None:
    page = read(rule)
    bad = check(page, page.bad, args=page.args)
    assert bad.error is None
    assert [(f.rule.name, f.message) for f in bad.findings] == [(rule, page.output)]
    good = check(page, page.good, args={})
    assert (good.error, good.findings) == (None, ())
    assert len(page.reason) > 80


@pytest.mark.parametrize("rule", RULES)
def test_the_page_says_whether_the_bad_example_can_be_mended(rule: str) -> None:
    page = read(rule)
    mended = mend(page.bad, "\\", lambda data: check(page, data, args=page.args))
    assert (mended != page.bad) == bool(page.mends)
    if page.mends:
        assert check(page, mended, args=page.args).findings == ()


@pytest.mark.parametrize("name", ["UnsetInRun", "ExecFormQuotes"])
def test_bad_gets_the_advice_and_good_none(name: str) -> None:
    page = read(name)
    bad, good = (check(page, data, args={}) for data in (page.bad, page.good))
    assert [(one.rule, one.message) for one in bad.advice] == [(name, page.output)]
    assert (good.error, good.findings, good.advice) == (None, (), ())


def test_advice_is_listed_with_its_pages(capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\((.+?)\) \| `(.+)` \|$", text, re.MULTILINE)
    assert rows == [(name, f"{name}.md", read(name).output) for name in ADVICE]
    for name, one in ADVICE.items():
        assert main(one.url.split()[1:]) == 0
        assert capsys.readouterr().out == (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_there_is_a_page_for_each_rule_and_a_list_of_them() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*RULES, *ADVICE, "README"}
    rows = re.findall(
        r"^\| \[(\w+)\]\((.+?)\) \| `(?:` )?(.+?)(?: `)?` \| (yes)? ?\|$",
        (FOLDER / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    expected = [
        (rule, f"{rule}.md", read(rule).output, "yes" if read(rule).mends else "") for rule in RULES
    ]
    assert [(name, link, out.strip(), fix) for name, link, out, fix in rows] == [
        (name, link, out, fix) for name, link, out, fix in expected
    ]


@pytest.mark.parametrize("rule", RULES)
def test_the_page_is_in_the_package(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / f"{rule}.md").read_text(encoding="utf-8")
    assert page(rule) == page(rule.lower()) == text
    assert main(RULES[rule].url.split()[1:]) == 0
    assert capsys.readouterr().out == text


def test_a_rule_that_there_is_not_has_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--explain", "StageNameCaseing"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        'error: there is no build check "StageNameCaseing" (did you mean StageNameCasing?)'
    )
    assert second.startswith("hint: there are StageNameCasing, FromAsCasing, ")
