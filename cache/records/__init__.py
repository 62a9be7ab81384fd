"""Records: results by key, named inputs, layers by delta."""
