"""Search for a pipeline of passes that makes a model small and keeps its outputs."""
