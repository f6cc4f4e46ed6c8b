"""Is a prompt ready for production, and does it stay good?"""
