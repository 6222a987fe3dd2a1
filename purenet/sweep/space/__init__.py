"""Distributions, and a space of them taken apart."""
