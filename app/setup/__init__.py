"""The program's own environment: made, checked and updated. Standard library only."""
