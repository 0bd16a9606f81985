"""What the paper shows in its supplement, of this study: one module a section."""
