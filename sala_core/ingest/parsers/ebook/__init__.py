"""Parsers of e-books: EPUB and FictionBook. They read what is left of a damaged book, and name what is not."""
