"""The version, defined once for packaging, for the files of a sweep and for `--version`."""

__version__ = "0.1.0"
