"""What people and machines read: pure functions from values to renderables and JSON."""
