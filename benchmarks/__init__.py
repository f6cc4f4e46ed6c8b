"""Speed and memory of promptops against bare loops that do the same work without it: `python -m benchmarks [NAME]...`."""
