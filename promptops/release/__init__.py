"""Versions, evidence, channels and bundles: what was approved, and what is live."""
