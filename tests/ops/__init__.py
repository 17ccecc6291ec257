"""Tests of the operators, one file a family; `harness` has the shared checks."""
