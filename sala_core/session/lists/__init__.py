"""Question lists: many questions, each asked from a copy of the same read state, with their answers in a file."""
