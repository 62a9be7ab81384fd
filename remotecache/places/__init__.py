"""Where caches lie: registries, directories, S3."""
