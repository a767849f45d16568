//! Decorators of the API traits: one `Layer` wraps every operation of a service, without code for each operation.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{Context, OperationInfo, Problem};

/// A result of an operation. Implemented for every generated type, so that a layer can compare and copy results.
pub trait Output: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {}

impl<T: Clone + PartialEq + fmt::Debug + Send + Sync + 'static> Output for T {}

/// Code that runs around every operation of `Api`, such as an ownership check.
///
/// `Api` is a trait object such as `dyn UsersApi`. [`Layered`] implements that trait and passes each call to the layer.
/// The layer runs the invocation on `inner`, on another implementation, on both, or on none. A layer for every service:
///
/// ```
/// # use std::sync::Arc;
/// # use flack_api::{Invocation, Layer, Layered, Output, Problem, users::UsersApi};
/// # struct Authority;
/// # impl Authority { fn check(&self, part: &str) -> Result<(), Problem> { Ok(()) } }
/// struct Guard(Authority);
///
/// impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for Guard {
///     async fn call<T: Output>(&self, inner: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
///         self.0.check(invocation.operation.service)?;
///         invocation.run(inner).await
///     }
/// }
///
/// fn guarded(users: Arc<dyn UsersApi>) -> Arc<dyn UsersApi> {
///     Arc::new(Layered::new(Guard(Authority), users))
/// }
/// ```
pub trait Layer<Api: ?Sized>: Send + Sync + 'static {
    /// Answers the invocation. The problem that it returns must be declared by the operation; every operation that
    /// needs a caller declares 503.
    fn call<T: Output>(
        &self,
        inner: &Arc<Api>,
        invocation: Invocation<Api, T>,
    ) -> impl Future<Output = Result<T, Problem>> + Send;
}

/// An implementation of `Api` with a layer around it. Implements every generated API trait.
pub struct Layered<Api: ?Sized, L> {
    layer: L,
    inner: Arc<Api>,
}

impl<Api: ?Sized, L: Layer<Api>> Layered<Api, L> {
    pub fn new(layer: L, inner: Arc<Api>) -> Self {
        Self { layer, inner }
    }

    /// Passes one operation to the layer. Generated code calls it.
    pub(crate) async fn call<T: Output>(
        &self,
        operation: &'static OperationInfo,
        context: &Context,
        user_id: Option<i64>,
        run: impl Fn(Arc<Api>, Context) -> Running<T> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let invocation = Invocation { operation, context: context.clone(), user_id, run: Box::new(run) };
        self.layer.call(&self.inner, invocation).await
    }
}

impl<Api: ?Sized, L> fmt::Debug for Layered<Api, L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Layered").finish_non_exhaustive()
    }
}

/// A running operation. It borrows nothing, so a layer can move it to another task.
pub(crate) type Running<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;

/// One call of one operation with its arguments. It can run several times and on several implementations.
pub struct Invocation<Api: ?Sized, T> {
    pub operation: &'static OperationInfo,
    pub context: Context,
    /// The user of the verified token, if the call has one.
    pub user_id: Option<i64>,
    run: Box<dyn Fn(Arc<Api>, Context) -> Running<T> + Send + Sync>,
}

impl<Api: ?Sized, T> Invocation<Api, T> {
    /// Runs the operation on `api` with a copy of the arguments.
    pub async fn run(&self, api: &Arc<Api>) -> Result<T, Problem> {
        (self.run)(Arc::clone(api), self.context.clone()).await
    }
}

impl<Api: ?Sized, T> fmt::Debug for Invocation<Api, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Invocation").field("operation", &self.operation.id).finish_non_exhaustive()
    }
}
