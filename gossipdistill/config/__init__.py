"""What the user asks for: keys with their defaults, the layers that they come from, and one peer's specification."""
