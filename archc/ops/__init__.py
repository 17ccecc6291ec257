"""The operators, a family a file: a new file in this folder is a new family, and nothing else has to name it."""
