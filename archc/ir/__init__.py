"""The graph: typed values, nodes and weights, and the operations that read and change them.

Read `graph` first, then `rewriter`.
"""
