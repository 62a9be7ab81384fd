"""Compose files as bake definitions: a target for each service that is built."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import yaml

from pybuild.bake.definition import DEFAULT, Definition, check_name, clean_name
from pybuild.bake.hcl.values import Value, ValueProblem
from pybuild.bake.target import LINK, Group, Target, read_field
from pybuild.model.amounts import binary_bytes, parse_binary_size
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.span import Span
from pybuild.model.suggest import nearest
from pybuild.model.text import boolean

Object = dict[str, Any]
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?P<rest>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\})"
)
_MOST_DEPTH = 20
_MOST_NESTING, _MOST_VALUES = 100, 200_000
_FIELDS = frozenset(
    ("additional_contexts", "args", "cache_from", "cache_to", "context", "dockerfile")
    + ("dockerfile_inline", "entitlements", "extra_hosts", "isolation", "labels", "network")
    + ("no_cache", "platforms", "privileged", "provenance", "pull", "sbom", "secrets", "shm_size")
    + ("ssh", "tags", "target", "ulimits")
)
_LISTS = ("cache_from", "cache_to", "platforms", "secrets", "ssh", "tags")
_MAPS = ("additional_contexts", "args", "extra_hosts", "labels", "ulimits")


@dataclass(frozen=True, slots=True)
class Compose:
    """One compose file, its variables filled in."""

    name: str
    services: Mapping[str, Object]
    secrets: Object
    include: object = None

    @classmethod
    def parse(cls, name: str, text: bytes, environment: Mapping[str, str]) -> Compose:
        """Read a file.

        Raises:
            UserError: it is not YAML, or no compose file.
        """
        try:
            read: object = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark is not None else 1
            problem = getattr(error, "problem", None) or "it nests too deeply"
            raise UserError(
                f"failed to parse {name}: {problem}", spans=[Span(name, line, line)]
            ) from error
        if not isinstance(read, dict) or not read.keys() & {"services", "secrets", "include"}:
            raise UserError(f"{name}: empty compose file", hints=["a compose file has services: …"])
        content = cast("Object", _Filling(environment, name).filled(cast("object", read)))
        services = _objects(name, "services", content.get("services"))
        secrets = dict(_objects(name, "secrets", content.get("secrets")))
        return cls(name, services, secrets, content.get("include"))


def _objects(name: str, key: str, value: object) -> dict[str, Object]:
    """Return a mapping of mappings; one that is left out is empty.

    Raises:
        UserError: it is anything else.
    """
    pairs = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if not isinstance(value, dict | None) or any(
        not isinstance(one, dict | None) for one in pairs.values()
    ):
        raise UserError(f"{name}: {key} must be a mapping of mappings")
    return {key: cast("Object", one or {}) for key, one in pairs.items()}


class _Filling:
    """Replaces the variables in the texts of a file; a few lines of YAML can stand for any number."""

    def __init__(self, environment: Mapping[str, str], name: str) -> None:
        self._environment = environment
        self._name = name
        self._left = _MOST_VALUES

    def filled(self, value: object, depth: int = 0) -> object:
        """Return a value with the variables in its texts replaced.

        Raises:
            UserError: it nests too deeply, or is too large.
        """
        self._left -= 1
        if depth > _MOST_NESTING or self._left < 0:
            problem = "is too large" if self._left < 0 else "nests too deeply"
            raise UserError(f"{self._name}: it {problem}")
        if isinstance(value, dict):
            pairs = cast("dict[object, object]", value)
            return {str(key): self.filled(one, depth + 1) for key, one in pairs.items()}
        if isinstance(value, list):
            return [self.filled(one, depth + 1) for one in cast("list[object]", value)]
        return interpolated(value, self._environment.get) if isinstance(value, str) else value


def interpolated(text: str, lookup: Callable[[str], str | None], depth: int = 0) -> str:
    """Return *text* with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced.

    Raises:
        UserError: ``${NAME:?reason}`` of a variable that is not set, or no such form.
    """
    if depth > _MOST_DEPTH:
        raise UserError(f'invalid interpolation format: "{text[:40]}" nests too deeply')

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name, rest = match["plain"] or match["braced"], match["rest"] or ""
        value = lookup(name)
        if not rest:
            return value or ""
        colon = rest.startswith(":")
        sign, word = rest[colon : colon + 1], rest[colon + 1 :]
        is_set = bool(value) if colon else value is not None
        match sign:
            case "-":
                return (value or "") if is_set else interpolated(word, lookup, depth + 1)
            case "+":
                return interpolated(word, lookup, depth + 1) if is_set else ""
            case "?" if is_set:
                return value or ""
            case "?":
                reason = interpolated(word, lookup, depth + 1)
                raise UserError(f"required variable {name} is missing a value: {reason}")
            case _:
                raise UserError(f'invalid interpolation format for "{match[0]}"')

    return _VARIABLE.sub(replace, text)


# --- services -------------------------------------------------------------------------------------


def read_compose(files: Sequence[Compose], environment: Mapping[str, str]) -> Definition:
    """Return the targets of the services that *files* together build, and a group of all of them.

    Raises:
        UserError: a service is wrong.
    """
    services: dict[str, Object] = {}
    secrets: Object = {}
    for file in files:
        for name, service in file.services.items():
            services[name] = merged(services.get(name, {}), service)
        secrets |= file.secrets
    targets: dict[str, Target] = {}
    for name in services:
        service = _extended(name, services, ())
        if service.get("build") in (None, ""):
            if not service.get("image"):
                raise UserError(f"service {name} has neither an image nor a build context")
            continue
        _check_fields(name, build_of(service))
        target = clean_name(name)
        try:
            check_name(target)
            targets[target] = _target(target, service, secrets, environment)
        except ValueProblem as problem:
            raise UserError(f"service {name}: {problem.message}", hints=problem.hints) from problem
    groups = {DEFAULT: Group(DEFAULT, tuple(targets))} if services else {}
    return Definition(groups, targets)


def _check_fields(name: str, build: Object) -> None:
    for field in build:
        if field not in _FIELDS and not field.startswith("x-"):
            near = nearest(field, _FIELDS)
            raise UserError(
                f"service {name}: build has no field {field}",
                hints=[f"did you mean {near}?"] if near else [],
            )


def _extended(name: str, services: Mapping[str, Object], above: tuple[str, ...]) -> Object:
    """Return a service laid over the one of these files that it extends."""
    service = services[name]
    extends: object = service.get("extends")
    if not extends:
        return service
    parts = cast("Object", extends) if isinstance(extends, dict) else {"service": extends}
    other = str(parts.get("service"))
    if other not in services or other in above:
        problem = "itself" if other in above else f"{other}, which is not there"
        raise UserError(f"service {name} extends {problem}")
    return merged(_extended(other, services, (*above, name)), service)


def merged(under: Object, over: Object) -> Object:
    """Return a service laid over another of that name."""
    made = {**under, **over}
    if under.get("build") is not None and over.get("build") is not None:
        one, other = build_of(under), build_of(over)
        both = {**one, **other}
        for key in _LISTS:
            if key in one and key in other:
                both[key] = [*_as_list(one[key]), *_as_list(other[key])]
        for key in _MAPS:
            if key in one and key in other:
                both[key] = {**_as_map(one[key]), **_as_map(other[key])}
        made["build"] = both
    return made


def build_of(service: Object) -> Object:
    """Return the ``build`` of a service as a mapping.

    Raises:
        UserError: it is neither a path nor a mapping.
    """
    build = service["build"]
    if isinstance(build, str):
        return {"context": build}
    if not isinstance(build, dict):
        raise UserError("build of a service is a path or a mapping")
    return cast("Object", build)


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return [name if one is None else f"{name}={one}" for name, one in pairs.items()]
    return [*value] if isinstance(value, list) else [value]


def _as_map(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return {str(name): one for name, one in cast("dict[object, object]", value).items()}
    pairs: dict[str, Any] = {}
    for one in _as_list(value):
        name, equals, text = str(one).partition("=")
        pairs[name] = text if equals else None
    return pairs


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _target(name: str, service: Object, secrets: Object, environment: Mapping[str, str]) -> Target:
    build = build_of(service)
    own = {key: one for key, one in _as_map(service.get("environment")).items() if one is not None}
    args: dict[str, Value] = {}
    for key, value in _as_map(build.get("args")).items():
        resolved = value if value is not None else own.get(key, environment.get(key))
        if resolved is not None:
            args[key] = _word(resolved)
    given: dict[str, object] = {
        "args": args,
        "attest": _attestations(build),
        "cache-from": _as_list(build.get("cache_from")),
        "cache-to": _as_list(build.get("cache_to")),
        "context": build.get("context"),
        "contexts": contexts_of(_as_map(build.get("additional_contexts"))),
        "dockerfile": build.get("dockerfile"),
        "dockerfile-inline": build.get("dockerfile_inline"),
        "extra-hosts": _hosts(build.get("extra_hosts")),
        "labels": {key: _word(one or "") for key, one in _as_map(build.get("labels")).items()},
        "network": build.get("network"),
        "no-cache": build.get("no_cache") or None,
        "platforms": _as_list(build.get("platforms")),
        "pull": build.get("pull") or None,
        "secret": [_secret(one, secrets) for one in _as_list(build.get("secrets"))],
        "shm-size": _memory(build.get("shm_size")),
        "ssh": sorted(_word(one) for one in _as_list(build.get("ssh"))),
        "tags": _as_list(build.get("tags")),
        "target": build.get("target"),
        "ulimits": _ulimits(_as_map(build.get("ulimits"))),
    }
    fields: dict[str, Value] = {}
    for key, value in given.items():
        if value not in (None, "", [], {}):
            fields[key] = read_field(key, cast("Value", value))
    target = _with_extension(Target(name, fields), build.get("x-bake"))
    if not target.texts("tags") and service.get("image"):
        target = target.changed("tags", [str(service["image"])])
    return target


def contexts_of(pairs: Mapping[str, Any]) -> dict[str, Value]:
    """Return named contexts, those that are services as the targets of these."""
    made: dict[str, Value] = {}
    for name, value in pairs.items():
        kind, colon, rest = str(value).partition(":")
        is_target = colon and kind in ("service", "target")
        if is_target:
            made[name] = LINK + clean_name(rest)
        else:
            made[name] = str(value) if colon else posixpath.normpath(str(value))
    return made


def _attestations(build: Object) -> list[str]:
    made: list[str] = []
    for kind in ("sbom", "provenance"):
        value = build.get(kind)
        if value not in (None, ""):
            switched = boolean(_word(value))
            rest = _word(value) if switched is None else f"disabled={_word(not switched)}"
            made.append(f"type={kind},{rest}")
    return made


def _hosts(value: object) -> dict[str, Value]:
    hosts: dict[str, list[str]] = {}
    if isinstance(value, dict):
        for name, one in cast("dict[str, object]", value).items():
            hosts.setdefault(name, []).extend(str(address) for address in _as_list(one))
    else:
        for one in _as_list(value):
            sign = "=" if "=" in str(one) else ":"
            name, _, address = str(one).partition(sign)
            hosts.setdefault(name, []).append(address.removeprefix("[").removesuffix("]"))
    return {name: ",".join(addresses) for name, addresses in hosts.items()}


def _secret(value: object, secrets: Object) -> Object:
    source = cast("Object", value).get("source") if isinstance(value, dict) else value
    if str(source) not in secrets:
        raise UserError(
            f"the build refers to undefined build secret {source}",
            hints=[f"declare it: secrets: {source}: file: … or environment: …"],
        )
    declared = cast("Object", secrets[str(source)] or {})
    if declared.get("external"):
        raise UserError(f"unsupported external secret {source}")
    made = {"id": str(source), "src": declared.get("file"), "env": declared.get("environment")}
    return {key: str(one) for key, one in made.items() if one}


def _memory(value: object) -> str:
    """Return a size as docker writes it: in the largest unit that it reaches."""
    return "" if value in (None, "") else binary_bytes(parse_binary_size(str(value), "shm_size"))


def _ulimits(limits: Mapping[str, Any]) -> list[str]:
    made: list[str] = []
    for name, value in sorted(limits.items()):
        both = cast("Object", value) if isinstance(value, dict) else {"soft": value, "hard": value}
        made.append(f"{name}={both.get('soft')}:{both.get('hard')}")
    return made


_EXTENSION = (
    "cache-from",
    "cache-to",
    "no-cache-filter",
    "output",
    "platforms",
    "secret",
    "ssh",
    "tags",
)


def _with_extension(target: Target, extension: object) -> Target:
    """Return a target with what stands under ``x-bake``, for which compose has no names."""
    if extension is None:
        return target
    if not isinstance(extension, dict):
        raise UserError("x-bake is a mapping")
    given = cast("Object", extension)
    fields: dict[str, Value] = {}
    for name in _EXTENSION:
        if name in given:
            value = given[name]
            texts = value.split() if isinstance(value, str) else _as_list(value)
            fields[name] = read_field(name, [*texts])
    for name in ("pull", "no-cache"):
        if name in given:
            fields[name] = read_field(name, given[name])
    for name in ("tags", "platforms"):  # added to those of the service
        if name in fields:
            fields[name] = [*target.texts(name), *cast("list[Value]", fields[name])]
    if "cache-to" in fields:
        fields["cache-to"] = [
            *cast("list[Value]", target.fields.get("cache-to") or []),
            *cast("list[Value]", fields["cache-to"]),
        ]
    if "contexts" in given:
        fields["contexts"] = {
            **contexts_of(_as_map(given["contexts"])),
            **cast("dict[str, Value]", target.fields.get("contexts") or {}),
        }
    return Target(target.name, fields).over(target).normal()


def dotenv(text: str, lookup: Callable[[str], str | None]) -> dict[str, str]:
    """Return the variables of a ``.env`` file.

    Raises:
        UserError: a line that sets none.
    """
    made: dict[str, str] = {}
    for line in text.splitlines():
        words = line.strip().removeprefix("export ").strip()
        if not words or words.startswith("#"):
            continue
        name, equals, value = words.partition("=")
        if not equals:
            continue
        value = value.strip()
        if value[:1] == "'" and value.endswith("'") and len(value) > 1:
            made[name.strip()] = value[1:-1]
            continue
        if value[:1] == '"' and value.endswith('"') and len(value) > 1:
            value = value[1:-1].replace("\\n", "\n").replace('\\"', '"')
        else:
            value = re.sub(r"\s+#.*", "", value)
        made[name.strip()] = interpolated(value, lambda key: made.get(key, lookup(key)))
    return made


def environment_with_file(environment: Mapping[str, str], folder: str) -> dict[str, str]:
    """Return the environment with what ``.env`` of a folder adds to it."""
    path = os.path.join(folder, ".env")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, IsADirectoryError):
        return dict(environment)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return {**dotenv(text, environment.get), **environment}
