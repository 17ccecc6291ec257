"""Printing: the text of a graph in the language."""
