"""Code generation: `outline` recovers the blocks and loops of a graph; the others write programs."""
