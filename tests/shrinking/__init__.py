"""Tests of the search of `archc shrink`."""
