"""Many objects: pipelined on one association, spread over several, noted in a ledger."""
