"""The frontend's options, from a request and the inputs that were read for it."""

from __future__ import annotations

from pybuild.builds.contexts import BuildInputs
from pybuild.builds.request import BuildRequest
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.model.platform import Platform


def lower_options(
    request: BuildRequest, inputs: BuildInputs, platform: Platform, here: Platform
) -> LowerOptions:
    """Return the part of *request* that decides the definition, for one platform.

    Args:
        here: the platform of this machine.
    """
    return LowerOptions(
        target=request.target,
        build_args=request.build_args,
        target_platform=platform,
        build_platform=here,
        named_contexts={**inputs.others, **{n: n for n in inputs.trees if n != "context"}},
        no_cache=request.no_cache,
        no_cache_filter=request.no_cache_filter,
        labels=request.labels,
        steps=request.steps,
        context=inputs.context,
        local_excludes={name: tree.exclude for name, tree in inputs.trees.items()},
        multi_platform=request.multi_platform,
        platform_explicit=bool(request.platforms),
        policies=request.policies,
    )
