"""`make resolve`: the conflicts of a merge in params, ledger, lock and results; docs/merging.md."""
