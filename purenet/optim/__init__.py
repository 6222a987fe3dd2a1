"""Optimizers, gradient transformations, schedules."""
