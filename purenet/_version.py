"""The version, said once: packaging, the files that a sweep leaves and `--version` read it here."""

__version__ = "0.1.0"
