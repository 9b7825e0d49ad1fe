"""VideoPASTA, written out: videos to preference pairs to an aligned Video-LLM to scores."""
