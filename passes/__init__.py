"""The passes that come with archc, one a file."""
