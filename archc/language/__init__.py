"""The language: source text to graph, and graph to source text.

`syntax` parses a text to a syntax tree, and formats a tree as text.  `elaboration` turns a syntax tree into a graph.
`printing` writes a graph as text.  `std` is the standard library of blocks.
"""
