"""The claims of the paper, measured in the toy world."""
