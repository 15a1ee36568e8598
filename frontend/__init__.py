"""The frontend: WebSocket and HTTP to people, gRPC to the speech model. It never touches torch or the engine."""
