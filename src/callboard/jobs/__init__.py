"""Durable jobs: their model and states, the seam to the stores, and the one room around it."""
