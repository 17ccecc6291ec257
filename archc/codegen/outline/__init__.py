"""The flat graph folded back into the definitions and loops of its text."""
