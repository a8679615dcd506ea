"""What runs left in their work dirs, side by side."""
