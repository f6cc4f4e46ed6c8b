"""An OpenAI-compatible HTTP endpoint over a Runtime, for applications in any language."""
