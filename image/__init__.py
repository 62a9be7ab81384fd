"""OCI formats as bytes: config, manifest, index, layer diff and apply, archives."""
