"""Question lists as the user meets them: as tables in files, and in the page."""
