"""Parsers of PDF, EPUB and HTML. They run in a child process, which can be killed.

To start fast, the modules here import only each other, the standard library, pymupdf and bs4.
"""
