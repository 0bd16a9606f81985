"""The HTTP service: predictions of the registry's champions, and the page that asks for them."""
