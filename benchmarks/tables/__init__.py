"""The tables of the pages, each made by the function of the name of its result."""
