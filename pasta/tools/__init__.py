"""Tools beside the method: nobody needs them to follow it, and nothing imports them."""
