"""The plugin of pytest: fixtures that build images, and tests for each of several arguments or platforms.

```python
@pytest.mark.pybuild("app", build_args={"PYTHON": ["3.12", "3.13"]})
def test_it_answers(built):
    assert built["deps"].cached, built["deps"].why
```

Loaded by pytest alone, in each run of it where pybuild is installed: what builds is imported when a test does.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from pybuild.testing.images import BuiltImage

_MARK = "pybuild"
_HELP = "pybuild(context, **options): what the fixture `built` builds; a list in build_args, and platforms, give a test each"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pybuild", "images built for tests")
    group.addoption("--pybuild-root", default="", help="directory of the store of pybuild")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _HELP)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each combination of the lists in a mark."""
    mark = metafunc.definition.get_closest_marker(_MARK)
    if mark is None or "built" not in metafunc.fixturenames:
        return
    variants = list(_variants(mark.args, mark.kwargs))
    names = [name or "image" for name, _, _ in variants]
    metafunc.parametrize("built", [variant[1:] for variant in variants], ids=names, indirect=True)


def _variants(
    args: tuple[Any, ...], options: Mapping[str, Any]
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield name, context and options of each build that a mark stands for."""
    context = args[0] if args else options.get("context", ".")
    given = {name: value for name, value in options.items() if name != "context"}
    arguments: Mapping[str, object] = given.get("build_args") or {}
    lists = [[(name, one) for one in _values(value)] for name, value in arguments.items()]
    varied = {name for name, value in arguments.items() if isinstance(value, list | tuple)}
    platforms = _values(given.pop("platforms", None) or "")
    for platform in platforms:
        for pairs in itertools.product(*lists):
            made: dict[str, Any] = {**given, "build_args": dict(pairs)}
            if platform:
                made["platforms"] = [platform]
            shown = [f"{name}={value}" for name, value in pairs if name in varied]
            yield "-".join([*([platform] if len(platforms) > 1 else []), *shown]), context, made


def _values(value: object) -> list[str]:
    """Return the values that an argument takes, one after the other."""
    if isinstance(value, list | tuple):
        return [str(one) for one in cast("Sequence[object]", value)]
    return [str(value)]


@pytest.fixture(scope="session")
def pybuild_root(pytestconfig: pytest.Config) -> str:
    """The directory of the store that images are built in; empty for the user's own."""
    return str(pytestconfig.getoption("--pybuild-root"))


@pytest.fixture
def build_image(request: pytest.FixtureRequest, pybuild_root: str) -> Callable[..., BuiltImage]:
    """A function as `pybuild.testing.images.build_image`; paths are relative to the test's file."""
    from pybuild.testing.images import build_image as build

    top = request.path.parent

    def made(context: Any = ".", **options: Any) -> BuiltImage:
        if isinstance(context, str) and os.path.isdir(top / context):
            context = str(top / context)
        if pybuild_root:
            options.setdefault("root", pybuild_root)
        return build(context, **options)

    return made


@pytest.fixture
def built(request: pytest.FixtureRequest, build_image: Callable[..., BuiltImage]) -> BuiltImage:
    """The image of the test's mark ``pybuild``; without one that of the test file's directory."""
    param: tuple[Any, dict[str, Any]] = getattr(request, "param", (".", dict[str, Any]()))
    return build_image(param[0], **param[1])
