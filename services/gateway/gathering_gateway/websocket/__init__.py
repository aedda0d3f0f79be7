"""The WebSocket at `/ws`: the calls of gRPC for browsers, with the token of who opened it."""
