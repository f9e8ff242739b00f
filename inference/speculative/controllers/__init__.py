"""Controllers: how many tokens are drafted, in which shape, and by which exit layer."""
