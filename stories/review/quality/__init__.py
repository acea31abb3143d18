"""The look at a story on its arrival: flags with evidence, which decide nothing (floor 3).

`reading` splits a text, `looking` finds its flaws, `comparing` finds its neighbours, `checking` keeps the flags.
"""
