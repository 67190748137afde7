"""Creates, checks and updates the program's own environment. Standard library only."""
