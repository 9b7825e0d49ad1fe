"""The model families: loading, processors, generation, model files, adapter files."""
