"""Built-in passes, one module each; modules with a leading underscore are their helpers."""
