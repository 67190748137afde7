"""Text files with a structure of their own: notebooks, e-mail, subtitles."""
