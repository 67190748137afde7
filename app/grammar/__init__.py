"""The command line's grammar. Standard library only: it runs before the environment exists."""
