"""Tests; their folders mirror the packages of archc."""
