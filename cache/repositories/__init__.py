"""Repositories of the registry: links to blobs, and how they go."""
