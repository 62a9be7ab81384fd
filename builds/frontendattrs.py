"""Says a build request in the attributes that the Dockerfile frontend of any server reads [7.2]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builds.request import MAX_AGE, BuildRequest
from pybuild.model.stepoptions import attributes_of_settings
from pybuild.model.text import join_csv

if TYPE_CHECKING:
    from pybuild.exporter.attest.options import Provenance, Sbom

FRONTEND = "dockerfile.v0"
ON_FAIL_OUTPUT = (
    "pybuild.on-fail-output"  # to a server of ours: the place of files of a failed step
)


def frontend_attrs(request: BuildRequest) -> dict[str, str]:
    """Return all that *request* says but where its contexts and its Dockerfile are."""
    # Without --pull the server asks registries as it does by default: another client may have given
    # the names in its store a meaning.
    attrs = {"image-resolve-mode": "pull"} if request.pull in (True, "newer") else {}
    attrs |= {f"build-arg:{name}": value for name, value in request.build_args.items()}
    attrs |= {f"label:{name}": value for name, value in request.labels.items()}
    if request.fail_on_miss:
        attrs["pybuild.fail-on-miss"] = "true"
    if request.target:
        attrs["target"] = request.target
    if request.platforms:
        attrs["platform"] = ",".join(str(platform) for platform in request.platforms)
    if request.multi_platform:
        attrs["multi-platform"] = "true"
    if request.no_cache:
        attrs["no-cache"] = ""
    elif request.no_cache_filter:
        attrs["no-cache"] = ",".join(sorted(request.no_cache_filter))
    if request.max_ages:
        attrs[MAX_AGE] = ",".join(
            f"{stage}={age:f}s" if stage else f"{age:f}s"
            for stage, age in sorted(request.max_ages.items())
        )
    attrs |= attributes_of_settings(request.steps)
    if request.attestations:
        attestations = request.attestations
        if attestations.provenance is not None:
            attrs["attest:provenance"] = _provenance(attestations.provenance)
        if attestations.sbom is not None:
            attrs["attest:sbom"] = _sbom(attestations.sbom)
    return attrs


def _provenance(options: Provenance) -> str:
    from pybuild.exporter.attest.options import FILENAME, V1

    fields = [f"mode={'max' if options.full else 'min'}"]
    if options.version != V1:
        fields.append(f"version={options.version}")
    if options.builder_id:
        fields.append(f"builder-id={options.builder_id}")
    if options.filename != FILENAME:
        fields.append(f"filename={options.filename}")
    for name, value in (
        ("reproducible", options.reproducible),
        ("inline-only", options.inline_only),
        ("complete-materials", options.complete_materials),
    ):
        if value:
            fields.append(f"{name}=true")
    return join_csv(fields)


def _sbom(options: Sbom) -> str:
    fields = [f"generator={options.generator}"]
    fields += [f"{name}={value}" for name, value in sorted(options.parameters.items())]
    return join_csv(fields)
