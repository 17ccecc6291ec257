"""Text to syntax tree and back: grammar, scanner, parser, tree, formatter."""
