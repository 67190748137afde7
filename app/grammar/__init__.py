"""The grammar of the command line. Standard library only, because it runs before the environment exists."""
