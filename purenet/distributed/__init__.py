"""Devices, meshes, several processes."""
