"""The check of each new story: flags with evidence, which decide nothing.

`passages` splits a text, `rules` and `ingredients` find its flaws, `near_duplicates` its neighbours; `check` keeps
the flags.
"""
