"""A conversation in one file, with evidence and places: Markdown, HTML without scripts, or JSON."""
