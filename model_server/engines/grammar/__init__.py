"""The story grammar behind base-zh: word lists and sentence pools (data), plots, and the composer."""
