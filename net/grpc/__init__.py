"""gRPC over HTTP/2: calls in and out over sockets and tunnels; messages are bytes here."""
