"""Markdown to HTML: text is parsed once, here, and only elements of a fixed list can come out."""
