"""Distributions, and the spaces of hyperparameters built from them."""
