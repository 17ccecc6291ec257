"""Graph to text: the printer and its parts."""
