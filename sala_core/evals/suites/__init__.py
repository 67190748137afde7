"""The evaluation suites: RULER, MRCR, NoLiMa, quotations, absent facts, and perplexity."""
