"""What taskflow says of itself."""
