"""One module per provider; a module's name is the provider's slug."""
