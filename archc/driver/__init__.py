"""The steps of a compilation around the graph: pipelines from text, weights bound, files written and checked."""
