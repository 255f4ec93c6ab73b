"""How dates are written on the pages, where Django's own way takes too much room in a list."""
