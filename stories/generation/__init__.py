"""How one story is written: its states, the money of its calls, its prompt, and the text of the answer."""
