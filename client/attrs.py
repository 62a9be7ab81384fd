"""Says a build request in the attributes that the Dockerfile frontend of any server reads [7.2]."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pybuild.builds.request import BuildRequest
from pybuild.exporter.attest.options import FILENAME, V1, Provenance, Sbom
from pybuild.model.ops import NetworkMode
from pybuild.model.resources import Resources

FRONTEND = "dockerfile.v0"


def frontend_attrs(request: BuildRequest) -> dict[str, str]:
    """Return all that *request* says but where its contexts and its Dockerfile are."""
    # Without --pull the server asks registries as it does by default: another client may have given
    # the names in its store a meaning.
    attrs = {"image-resolve-mode": "pull"} if request.pull else {}
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
    if request.network is not NetworkMode.DEFAULT:
        attrs["force-network-mode"] = str(request.network)
    if request.add_hosts:
        attrs["add-hosts"] = csv_line(f"{name}={address}" for name, address in request.add_hosts)
    if request.ulimits:
        attrs["ulimit"] = csv_line(f"{n}={soft}:{hard}" for n, soft, hard in request.ulimits)
    if request.shm_size_bytes:
        attrs["shm-size"] = str(request.shm_size_bytes)
    attrs |= _limits(request.resources)
    if request.attestations:
        attestations = request.attestations
        if attestations.provenance is not None:
            attrs["attest:provenance"] = _provenance(attestations.provenance)
        if attestations.sbom is not None:
            attrs["attest:sbom"] = _sbom(attestations.sbom)
    return attrs


def _limits(resources: Resources) -> dict[str, str]:
    named = {
        "memory": resources.memory_bytes,
        "memswap": resources.memory_swap_bytes,
        "cpushares": resources.cpu_shares,
        "cpuperiod": resources.cpu_period_us,
        "cpuquota": resources.cpu_quota_us,
        "cpusetcpus": resources.cpuset_cpus,
        "cpusetmems": resources.cpuset_mems,
        "cgroup-parent": resources.parent,
    }
    return {name: str(value) for name, value in named.items() if value}


def csv_line(fields: Iterable[str]) -> str:
    """Write one CSV record, without its line end."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(list(fields))
    return out.getvalue()


def _provenance(options: Provenance) -> str:
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
    return csv_line(fields)


def _sbom(options: Sbom) -> str:
    fields = [f"generator={options.generator}"]
    fields += [f"{name}={value}" for name, value in sorted(options.parameters.items())]
    return csv_line(fields)
