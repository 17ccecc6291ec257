"""Syntax: grammar, scanner, parser, syntax tree and formatter."""
