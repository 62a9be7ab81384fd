"""Content under its names: blobs, deltas, images, cache mounts, leases."""
