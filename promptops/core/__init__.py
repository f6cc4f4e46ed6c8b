"""Pure rules and values shared by the toolchain and the runtime: no input or output happens here."""
