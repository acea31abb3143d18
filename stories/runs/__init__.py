"""Runs: the plan of many stories, its life from draft to done, and how far it is."""
