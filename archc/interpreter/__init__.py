"""A graph run node by node, and sample inputs for it."""
