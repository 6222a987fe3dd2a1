"""Layers with hand-written gradients, losses, metrics, ready-made models."""
