"""One training: supervised steps and epochs, and the loop around them."""
