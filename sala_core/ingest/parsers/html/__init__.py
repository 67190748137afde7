"""HTML as a tree, and the tree as readable text. `parsers/html_text.py` is the way in."""
