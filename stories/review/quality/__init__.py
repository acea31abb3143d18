"""The look at a story on its arrival: flags with evidence, which decide nothing.

`reading` splits a text, `looking` finds its flaws, `comparing` finds its neighbours, `checking` keeps the flags.
"""
