//! Files: `create_file` and `get_file`.

use axum::body::Bytes;
use flack_api::{
    Context, Problem,
    messages_v2::{GetFileResponse, types},
};
use tracing::info;
use uuid::Uuid;

use super::Messages;
use crate::{
    model::files::{self, disposition, safe_name, sniff},
    store::NewFile,
};

/// For a browser that opens the file alone: no script, no form, no other address.
const SECURITY_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'";

/// A file never changes. After this time the browser asks again whether it exists.
const CACHE: &str = "private, max-age=3600";

impl Messages {
    /// Stores a file. The caller of this function has checked that the user is a member of the channel.
    pub(super) async fn store_file(
        &self,
        context: &Context,
        user_id: i64,
        channel_id: i64,
        name: &str,
        key: Option<Uuid>,
        body: &Bytes,
    ) -> Result<types::File, Problem> {
        if body.is_empty() {
            return Err(files::file_is_empty());
        }
        if name.contains('\0') {
            return Err(files::nul_in_name());
        }
        let (rate_limit, taken) = self.file_bytes.take(user_id, u32::try_from(body.len()).unwrap_or(u32::MAX));
        taken.inspect_err(|_| context.rate_limits.report(rate_limit))?;
        let sniffed = sniff(body);
        let name = safe_name(name, sniffed);
        let file = NewFile { name: &name, sniffed, content: body };
        let id = self.store.insert_file(user_id, channel_id, &file, key).await?;
        info!(file.id = id, channel.id = channel_id, user.id = user_id, bytes = body.len(), "stored a file");
        Ok(types::File {
            id,
            name,
            type_: sniffed.kind.to_owned(),
            bytes: i32::try_from(body.len()).unwrap_or(i32::MAX),
            width: sniffed.size.map(|(width, _)| width),
            height: sniffed.size.map(|(_, height)| height),
        })
    }

    /// Returns the content of a file. The caller of this function has checked that the user can read the message.
    pub(super) async fn file(&self, message_id: i64, id: i64) -> Result<GetFileResponse, Problem> {
        let file = self.store.find_file(message_id, id).await?.ok_or_else(|| files::no_such_file(id))?;
        Ok(GetFileResponse {
            content_disposition: disposition(&file.kind, &file.name),
            content_type: file.kind,
            content_security_policy: SECURITY_POLICY.to_owned(),
            cross_origin_resource_policy: "same-origin".to_owned(),
            cache_control: CACHE.to_owned(),
            vary: "Authorization".to_owned(),
            body: file.content.into(),
        })
    }
}
