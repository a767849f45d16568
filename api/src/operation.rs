//! Facts about an operation that the generated router, client and layers share.

use http::Method;

/// An operation of an OpenAPI document.
#[derive(Debug)]
pub struct OperationInfo {
    /// Name of the service, such as `users`.
    pub service: &'static str,
    /// The `operationId`, such as `create_user`.
    pub id: &'static str,
    pub method: Method,
    /// Whether the caller sends a nickname and a password.
    pub needs_password: bool,
    /// The declared status of success, or 200 and 201: the operation finds or creates.
    pub(crate) success: &'static [u16],
    /// All declared statuses.
    pub(crate) statuses: &'static [u16],
}

impl OperationInfo {
    /// Whether the operation changes nothing: it can run on several implementations.
    pub fn is_read(&self) -> bool {
        self.method == Method::GET
    }
}
