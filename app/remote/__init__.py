"""Engines elsewhere: the words about them, and the one that a command line names."""
