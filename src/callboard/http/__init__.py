"""Plumbing of HTTP for both ends: serving an ASGI app, asking several gateways, the shapes of documents. No routes, no jobs."""
