"""Texts and figures that commands print: reports and tables."""
