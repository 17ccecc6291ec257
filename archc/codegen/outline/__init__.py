"""The outline of a graph: its blocks as definitions with instances, and its repeated layers as loops."""
