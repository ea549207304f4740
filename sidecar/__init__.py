"""The decision service: policy and facts in memory, questions over HTTP."""
