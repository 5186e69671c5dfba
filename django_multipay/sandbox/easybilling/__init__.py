"""EasyBilling's Payment Hub: the rooms behind its doors.

words: accounts, gateways, outcomes, status words. switches: settings. documents: the
requests by the document. ledger: the books and the rules of money. api: the endpoints.
"""
