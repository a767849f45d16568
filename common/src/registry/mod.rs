//! The registry: who runs where.
