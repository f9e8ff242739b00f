"""Tasks that are embedded in the package: generators that need no download."""
