"""A vendor's segment brought into line with a list: read, compared, guarded, written, looked at again; knows no vendor.

The life of one reconciliation, in files beside the ledger that a crash leaves as they are:

    pages read and compared ──► the whole difference known ──► guards ──► written ──► read and compared once more
"""
