"""What stands behind the sandbox's Payer: its tables and its switches."""
