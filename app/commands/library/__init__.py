"""Commands that check, mend and limit the library as a whole."""
