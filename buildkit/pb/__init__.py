"""Typed protobuf messages of the protocols that the build server speaks, one module a .proto file."""
