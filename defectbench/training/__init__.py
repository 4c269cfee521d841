"""Training a model on a dataset: recipes, the frames that may be used, the run in the package's own environment, registration."""
