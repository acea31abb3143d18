"""Review: what an editor decides about a story, and what the site points out before."""
