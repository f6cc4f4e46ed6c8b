"""What ships in a service: a released bundle, answered within budget and deadline."""
