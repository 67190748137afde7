"""The command line of those who develop the program."""
