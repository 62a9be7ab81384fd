"""Messages of google/protobuf/empty.proto, google/protobuf/field_mask.proto, google/protobuf/timestamp.proto, google/protobuf/any.proto; written by scripts/protos, typed by the stub beside it."""

from pybuild.buildkit.pb.pool import fill

fill(
    globals(),
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/any.proto",
)
