"""Excel workbooks, and rows of cells as text."""
