"""What a page shows: figures, pictures that move by hand, drawings of the networks."""
