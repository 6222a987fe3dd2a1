"""Training one network: supervised steps and epochs, and the loop around them."""
