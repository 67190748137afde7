"""The options of the commands that measure, train and test the program."""
