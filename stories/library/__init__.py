"""The library: its pages, its CSV files, and the labels that say a machine wrote a text."""
