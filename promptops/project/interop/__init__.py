"""Files of other tools, read and written with a report of what was kept, changed and lost; nothing in them is run."""
