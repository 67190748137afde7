"""What can be done with each turn, and what a question waits for."""
