"""KV storage: the tree cache and its representations."""
