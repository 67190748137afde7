"""Fits the finder: word vectors and relations, then the ranking of sentences and its confidence."""
