"""Where caches lie: registries, directories, S3, Azure, GitHub."""
