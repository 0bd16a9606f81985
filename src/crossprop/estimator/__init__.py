"""One's own data: adding it, configuring a study for it, learning from it without DVC."""
