"""For the tests of shops and of providers: a running sandbox, a contract suite."""
