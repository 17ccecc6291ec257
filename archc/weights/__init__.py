"""Lazy tensors, weights files, initializers and renaming.

`tensor` defines lazy tensors and the weights of a graph.  `load` reads files of all formats.
"""
