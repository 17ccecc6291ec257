"""Steps of a compilation: bind weights, parse pipelines of passes, emit files, check emitted programs."""
