"""Version of archc."""

__version__ = "0.1.0"
