"""Syntax tree to graph: definitions are instantiated, statements run, and names get their meaning."""
