"""Measurements of this server, each with the machine it was made on. Nothing the server needs stands here."""
