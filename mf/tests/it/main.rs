//! Tests of the program `mf` with real processes. One test binary, so that shared code is built and linked once.

mod support;

mod doctor;
mod nats;
mod routes;
mod scale;
mod stores;
mod usage;
mod versions;
