"""The graph that everything is about: values with types, nodes, weights, and how all of it is read and changed.

Read `graph`, then `rewriter`; `signature` and `solve` are where shapes come from, `attributes` where operators' and
passes' arguments are bound.
"""
