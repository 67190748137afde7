"""Parsers of PDF, EPUB and HTML. They run in a process of their own, which can be killed.

Nothing here imports from outside this folder but the standard library, pymupdf and bs4, so that the process
starts fast.
"""
