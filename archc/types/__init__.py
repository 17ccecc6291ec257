"""Types of values: dtypes, symbolic sizes, index signatures, attributes and storage."""
