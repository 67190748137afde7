"""`ask` with a list of questions."""
