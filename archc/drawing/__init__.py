"""Pictures of graphs: `scene` says what is drawn, `layout` where, and `svg`, `mermaid` and `dot` write it down."""
