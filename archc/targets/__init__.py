"""Targets: formats in which archc writes a model, one file for each, and the registry of all targets."""
