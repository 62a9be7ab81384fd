"""The cluster's engine: Dask's scheduler, workers and client, each in a process of its own."""
