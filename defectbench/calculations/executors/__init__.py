"""What runs calculations."""
