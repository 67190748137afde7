"""Parsers of all formats that are read. They run in a child process, which can be killed.

To start fast, the modules here import only each other, the standard library and pymupdf; the recognition of scans
also imports numpy.
"""
