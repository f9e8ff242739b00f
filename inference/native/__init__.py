"""Attention over a tree of keys as one compiled CPU kernel, built where a C++ compiler exists."""
