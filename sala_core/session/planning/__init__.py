"""Before a reading: which files, how many tokens, what it takes on this machine, and what was measured to tell so."""
