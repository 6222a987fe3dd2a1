"""Optimizers, transformations of gradients, schedules."""
