"""What writes and what learns: the grammar of base-zh, the n-gram model of tuned ones; base.py is their door."""
