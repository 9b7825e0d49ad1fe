"""What every run needs: flags, ranks, JSONL rows, atomic writes, locks."""
