"""Branch policies, one file each."""
