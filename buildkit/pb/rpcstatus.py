"""Messages of rpcstatus.proto; written by scripts/protos, typed by the stub beside it."""

from pybuild.buildkit.pb.pool import fill

fill(globals(), "rpcstatus.proto")
