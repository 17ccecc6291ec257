"""Pictures of graphs.

`compose` makes a scene of nodes and edges from a graph.  `layout` places the scene by layered graph drawing, with
`layering`, `coordinates` and `routing`.  `svg` and `text_formats` (Mermaid and DOT) write the picture.
"""
