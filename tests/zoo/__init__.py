"""What several tests need: results made without the loop, small networks."""
