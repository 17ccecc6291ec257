"""One file a family of operators; `harness` is what they share."""
