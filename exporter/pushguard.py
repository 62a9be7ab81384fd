"""Stops a push of layers with secrets in them. A layer is searched once: its verdict is a record.

Layers that were pulled from a registry are not searched: they are out already. The secrets themselves
are never held, so nothing can print them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pybuild.cache.records.layers import delta_of_layer, layer_facts
from pybuild.cache.records.results import SEARCHED
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.exporter.mountsources import image_layers
from pybuild.image.layer.secretrules import VERSION, Leak, SecretValue, is_telling
from pybuild.model.errors import DamagedBlob, EnvironmentFault, UserError
from pybuild.model.jsontext import as_list, as_number
from pybuild.model.secrets import redacted, without_secrets
from pybuild.net.tasks import gather

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.engine.engine import Engine
    from pybuild.engine.progress import InternalStep
    from pybuild.exporter.mountsources import ImageLayer
    from pybuild.image.layer import secretsearch
    from pybuild.model.descriptor import Descriptor
    from pybuild.model.digest import Digest
    from pybuild.model.span import Span
else:
    secretsearch = WorkerModule("pybuild.image.layer.secretsearch")

_AT_ONCE = 2  # each is one process that decompresses and searches
_SHOWN = 4
_MOST_WORDS = 60
_MARK_DIGITS = 16


async def search_delta(
    engine: Engine, roots: Sequence[str], values: Sequence[SecretValue]
) -> list[Leak]:
    """Return the secrets in a delta's directories, before there is a layer of it."""
    return await engine.workers.call(job(secretsearch.delta_job, roots, values))


def keep_verdict(
    store: Store, layer: Digest, leaks: Sequence[Leak], values: Sequence[SecretValue] = ()
) -> None:
    """Keep beside a layer's blob the secrets in it, or that there are none."""
    before = _record(store, layer)
    known = dict.fromkeys([*_leaks(before), *leaks])
    marks = {*map(str, as_list(before.get("values"))), *(value.mark for value in values)}
    record: dict[str, Any] = {"rules": VERSION}
    if known:
        record["leaks"] = [list(leak) for leak in known]
    if marks:
        record["values"] = sorted(marks)
    store.records.put(SEARCHED, layer, record)


def verdict(store: Store, layer: Digest, values: Sequence[SecretValue] = ()) -> list[Leak] | None:
    """Return the secrets in a layer; None if these rules have not searched it, or not for *values*."""
    record = _record(store, layer)
    if not record or not {value.mark for value in values} <= set(as_list(record.get("values"))):
        return None
    return _leaks(record)


def _record(store: Store, layer: Digest) -> Mapping[str, Any]:
    record = store.records.get(SEARCHED, layer) or {}
    return record if record.get("rules") == VERSION else {}


def _leaks(record: Mapping[str, Any]) -> list[Leak]:
    rows = [as_list(row) for row in as_list(record.get("leaks"))]
    return [
        Leak(str(path), int(as_number(line)), str(kind)) for path, line, kind in map(tuple, rows)
    ]


async def values_of(engine: Engine, secrets: Mapping[str, bytes]) -> list[SecretValue]:
    """Return those of a build's secrets that can be looked for."""
    telling = {id: value for id, text in secrets.items() if is_telling(value := text.strip())}
    if not telling:
        return []
    from pybuild.cache.content.storekey import make_key, secret_value

    store = engine.store
    key = await asyncio.to_thread(make_key, store.root, store.disk, store.tmp)
    return [
        SecretValue(id, value, secret_value(key, id, value)[:_MARK_DIGITS])
        for id, value in telling.items()
    ]


async def stop_secrets(
    engine: Engine,
    descriptor: Descriptor,
    step: InternalStep,
    allowed: Sequence[str] = (),
    lines: Mapping[Digest, Span] | None = None,
    values: Sequence[SecretValue] = (),
) -> None:
    """Search the layers of an image or index that were not searched, and refuse those with secrets.

    Args:
        allowed: patterns of paths in the image that may hold some.
        lines: the instructions that made layers, as far as known.
        values: secrets of the build, to be looked for, too.

    Raises:
        UserError: a layer has secrets elsewhere.
    """
    layers = await asyncio.to_thread(_to_be_searched, engine.store, descriptor)
    if not layers:
        return
    known = await asyncio.to_thread(
        lambda: {
            layer.blob.digest: verdict(engine.store, layer.blob.digest, values) for layer in layers
        }
    )
    unsearched = [digest for digest, leaks in known.items() if leaks is None]
    if unsearched:
        places = asyncio.Semaphore(_AT_ONCE)
        with step.doing("searching layers for secrets"):
            await gather([_search(engine, digest, values, places) for digest in unsearched])
        known |= await asyncio.to_thread(
            lambda: {digest: verdict(engine.store, digest) for digest in unsearched}
        )
    refused = [
        (layer, leak)
        for layer in layers
        for leak in known[layer.blob.digest] or ()
        if not _is_allowed(leak.path, allowed)
    ]
    if refused:
        raise _refusal(refused, lines or {})


def _to_be_searched(store: Store, descriptor: Descriptor) -> list[ImageLayer]:
    layers: dict[Digest, ImageLayer] = {}
    for layer in image_layers(store, descriptor):
        facts = layer_facts(store.records, delta_of_layer(layer.diff_id))
        if facts is None or not facts.is_published:
            layers.setdefault(layer.blob.digest, layer)
    return list(layers.values())


async def _search(
    engine: Engine, layer: Digest, values: Sequence[SecretValue], places: asyncio.Semaphore
) -> None:
    async with places:
        path = engine.store.blobs.path(layer)
        try:
            leaks = await engine.workers.call(job(secretsearch.blob_job, path, values))
        except EnvironmentFault as error:  # who exports it has it made again
            raise DamagedBlob(f"blob {layer}: {error.message}", digest=layer) from error
    await asyncio.to_thread(keep_verdict, engine.store, layer, leaks, values)


def _is_allowed(path: str, allowed: Sequence[str]) -> bool:
    patterns = [pattern.lstrip("/") for pattern in allowed]
    return path in patterns or any(fnmatchcase(path, pattern) for pattern in patterns)


def _refusal(leaks: Sequence[tuple[ImageLayer, Leak]], lines: Mapping[Digest, Span]) -> UserError:
    texts: list[str] = []
    for layer, leak in leaks[:_SHOWN]:
        at = f" line {leak.line}" if leak.line else ""
        span = lines.get(layer.blob.digest)
        by = _shown(layer.instruction) if span is None else f"{span.file}:{span.first_line}"
        of = f"layer {layer.number} of {layer.count}"
        texts.append(f"{leak.path}{at} ({leak.kind}; {of}{by and f', {by}'})")
    if len(leaks) > _SHOWN:
        texts.append(f"and {len(leaks) - _SHOWN} more")
    paths = list(dict.fromkeys(leak.path for _, leak in leaks))
    ways = " ".join(f"--allow-secret {path}" for path in paths[:_SHOWN])
    some = "a secret" if len(leaks) == 1 else f"{len(leaks)} secrets"
    return UserError(
        f"push stopped, {some} in the image: {'; '.join(texts)}",
        hints=[
            f"push it all the same: {ways}",
            "keep it out with .dockerignore or RUN --mount=type=secret",
        ],
    )


def _shown(instruction: str) -> str:
    """Return an instruction of a history, without what it may hold of secrets."""
    words = instruction.removesuffix(" # buildkit").split()
    if not words or words[0] not in ("ADD", "COPY"):
        return words[0] if words else ""
    text = redacted(without_secrets(" ".join(words)))
    return text if len(text) <= _MOST_WORDS else text[: _MOST_WORDS - 1] + "…"
