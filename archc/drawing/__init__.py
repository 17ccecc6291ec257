"""Pictures of graphs.

`compose` makes a scene of nodes and edges from a graph.  `layout` places it in three steps of layered graph drawing:
`layering`, `coordinates` and `routing`.  `svg` and `text_formats` (Mermaid and DOT) write the picture.
"""
