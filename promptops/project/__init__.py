"""The repository on disk: files, configuration, git, run store. The only importer of yaml and git."""
