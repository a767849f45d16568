//! The operations of `api/openapi/users.v2.yaml`, in its order.

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    users_v2::{UsersV2Api, types},
};
use flack_common::text::{self, is_invisible};
use tracing::info;

use super::Users;
use crate::{model, store::ProfileChange};

#[async_trait]
impl UsersV2Api for Users {
    async fn list_profiles(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        after: Option<i64>,
    ) -> Result<types::ProfileList, Problem> {
        let users = self.store.list_profiles(after.unwrap_or_default()).await?;
        Ok(types::ProfileList { profiles: users.into_iter().map(Into::into).collect() })
    }

    async fn get_profile(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        user_id: i64,
    ) -> Result<types::Profile, Problem> {
        self.store.find_profile(user_id).await?.map(Into::into).ok_or_else(|| model::no_such_user(user_id))
    }

    async fn update_profile(
        &self,
        context: &Context,
        caller: TokenCaller,
        user_id: i64,
        body: types::ProfileUpdate,
    ) -> Result<types::Profile, Problem> {
        self.store.find(user_id).await?.ok_or_else(|| model::no_such_user(user_id))?;
        if caller.user_id != user_id {
            return Err(model::not_your_user(user_id));
        }
        let (rate_limit, taken) = self.profile_changes.take(user_id, 1);
        // Only a refusal shows this quota, as that of the bytes of messages.
        taken.inspect_err(|_| context.rate_limits.report(rate_limit))?;
        let change = ProfileChange {
            display_name: body.display_name.as_deref().map(|text| checked("display_name", text, false)).transpose()?,
            about: body.about.as_deref().map(|text| checked("about", text, true)).transpose()?,
            // The router has checked the range.
            hue: body.hue.map(|hue| i16::try_from(hue).ok().filter(|hue| *hue >= 0)),
        };
        self.store.update_profile(context, user_id, &change).await?;
        info!(user.id = user_id, "changed a profile");
        self.get_profile(context, Some(caller), user_id).await
    }
}

/// Returns a text without spaces around it, unless it has characters that are not seen or that change the direction of
/// the text.
fn checked<'a>(field: &str, text: &'a str, has_lines: bool) -> Result<&'a str, Problem> {
    let is_hidden = |character| is_invisible(character) && !(has_lines && character == '\n');
    if text.contains(is_hidden) { Err(model::hidden_character(field)) } else { Ok(text::trim(text)) }
}
