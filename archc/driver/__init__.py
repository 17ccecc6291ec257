"""Steps of a compilation: binding of weights, pipelines from text, emission of files, and their check."""
