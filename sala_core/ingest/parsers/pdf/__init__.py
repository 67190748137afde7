"""PDF to text: pages, lines, tables, forms, and what is missing of them."""
