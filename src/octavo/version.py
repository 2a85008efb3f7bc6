"""The version of Octavo."""

__version__ = "0.1.0"
