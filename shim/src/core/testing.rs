//! A pod in memory, for tests.
