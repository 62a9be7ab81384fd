"""Makes images of results and brings them where they belong."""
