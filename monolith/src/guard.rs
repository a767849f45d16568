//! The ownership check around every operation of a part.
//!
//! It wraps the API trait, not the HTTP routes, so that calls from other parts of this process are checked as well.

use std::sync::Arc;

use flack_api::{Invocation, Layer, Output, Problem};
use flack_common::authority::Authority;

/// Answers 503 unless the monolith owns the part that the operation belongs to.
#[derive(Debug, Clone)]
pub struct Guard(pub Authority);

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for Guard {
    async fn call<T: Output>(&self, inner: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        self.0.check(invocation.operation.service)?;
        invocation.run(inner).await
    }
}
