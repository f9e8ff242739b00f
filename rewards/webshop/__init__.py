"""A text-only WebShop: catalogue, search, pages, transitions and the purchase reward."""
