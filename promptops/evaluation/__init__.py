"""From a prompt and its suite to a stored, scored run."""
