"""Tests of the base class of operators, its tables and its spellings."""
