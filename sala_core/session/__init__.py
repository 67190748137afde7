"""Sessions: documents, turns, saved state, and the jobs that work on them."""
