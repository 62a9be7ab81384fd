"""HTTP/2 without I/O (RFC 9113): bytes in, events and bytes out; it knows no socket and no gRPC."""
