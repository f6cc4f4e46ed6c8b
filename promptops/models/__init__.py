"""Model clients behind one Protocol: OpenAI-compatible servers, and local baselines that need no key."""
