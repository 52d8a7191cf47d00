"""Who runs a study: hands out trials, takes results, puts right what crashes left."""
