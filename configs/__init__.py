"""Presets (YAML), the typed settings they fill, errors, the terminal: what the other packages stand on."""
