"""`eval`: long-context suites on a model, and natural questions to the finder."""
