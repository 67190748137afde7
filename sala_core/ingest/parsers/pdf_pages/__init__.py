"""Pages of a PDF for the source viewer: as pictures, and where a passage stands on them."""
