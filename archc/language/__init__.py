"""Text to graph and back.

`parser` (with `scanner`, `grammar.lark` and `builder`) makes the tree of `syntax`; `elaborate` runs it into a graph;
`printer` writes a graph as text again, and `formatter` lays a person's text out.
"""
