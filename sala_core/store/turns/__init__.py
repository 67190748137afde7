"""Turns of a conversation: what can be done with each, and its other versions."""
