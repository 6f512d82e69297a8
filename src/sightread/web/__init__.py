"""The page: type a sentence and see its vokens; `sightread serve` (the extra `web`)."""
