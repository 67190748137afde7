"""Training data: corpora, generated tasks, and rows of tokens."""
