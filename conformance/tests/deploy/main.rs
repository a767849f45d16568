//! The files with which a stack is deployed, compared with the catalogue, with each other, and with the schemas of the
//! tools that read them: a service that one of them lacks fails.
//!
//! `.ci/deploy-tools` installs some of these tools. What needs them is skipped where they are missing.

mod files;
mod compose;
mod kubernetes;
mod terraform;
