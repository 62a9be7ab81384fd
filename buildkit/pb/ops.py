"""Messages of ops.proto; written by scripts/protos, typed by the stub beside it."""

from pybuild.buildkit.pb.pool import fill

fill(globals(), "ops.proto")
