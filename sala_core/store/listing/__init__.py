"""Sessions as a person sees them: pinned ones, the bin, hits of a search, sizes."""
