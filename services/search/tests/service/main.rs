//! The search service over a real PostgreSQL and NATS: events in, results of its API out.

mod support;
mod matches;
mod filters;
mod permissions;
mod pages;
mod projections;
