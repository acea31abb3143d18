"""Readers: who they are, what they may order and how often, and what they say of a story."""
