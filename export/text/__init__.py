"""Words in: the semantic features that a release reports, and the text bank that their prompts become."""
