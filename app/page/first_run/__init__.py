"""The first run: a sample that is read already, questions that work, and a short tour."""
