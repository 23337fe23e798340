"""Helpers behind the notebooks: Algorithm 1 of arXiv:2407.09499, a file for each of its steps."""
