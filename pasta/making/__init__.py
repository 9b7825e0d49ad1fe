"""The stages of pair making and who answers in them: local models and servers."""
