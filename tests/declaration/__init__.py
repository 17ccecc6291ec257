"""Tests of the base class of operators and of its parts."""
