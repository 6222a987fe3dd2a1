"""Samplers: which points of a space are tried."""
