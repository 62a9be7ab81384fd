"""Keep blobs, deltas and cache records under their names, and free them."""
