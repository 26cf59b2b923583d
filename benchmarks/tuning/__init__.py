"""Server settings that suit one machine: tried against the release's own, and written only if they are better."""
