//! Version 2 of messages: the list of a user's channels, and posting.

use async_trait::async_trait;
use axum::body::Bytes;
use flack_api::{
    Context, Problem, TokenCaller,
    messages_v2::{
        CreateChannelMessageResponse, CreateChannelResponse, EditMessageResponse, GetChannelResponse, GetFileResponse,
        GetMessageByIdResponse, MessagesV2Api, UpdateChannelResponse, types,
    },
};
use uuid::Uuid;

use super::MockPeers;

impl MockPeers {
    /// Makes the list of a user's channels contain a membership.
    pub fn set_member(&self, channel_id: i64, user_id: i64, version: i64, is_member: bool) {
        let mut memberships = self.memberships.lock().unwrap();
        let of_user = memberships.entry(user_id).or_default();
        of_user.retain(|(channel, ..)| *channel != channel_id);
        of_user.push((channel_id, version, is_member));
    }

    fn of(&self, user_id: i64) -> Vec<super::Membership> {
        self.memberships.lock().unwrap().get(&user_id).cloned().unwrap_or_default()
    }
}

fn channel(id: i64, member_version: i64) -> types::Channel {
    types::Channel {
        id,
        name: format!("channel-{id}"),
        kind: types::ChannelKind::Private,
        topic: String::new(),
        created_at: chrono::DateTime::UNIX_EPOCH,
        archived_at: None,
        version: 1,
        member: Some(types::Membership {
            joined_at: chrono::DateTime::UNIX_EPOCH,
            last_read_message_id: 0,
            unread: 0,
            mentions: 0,
            version: member_version,
        }),
        user_ids: Vec::new(),
    }
}

#[async_trait]
impl MessagesV2Api for MockPeers {
    async fn list_channels(
        &self,
        _: &Context,
        caller: TokenCaller,
        include: Option<types::ListChannelsInclude>,
    ) -> Result<types::ChannelList, Problem> {
        self.check_available("messages")?;
        assert!(include.is_some(), "without what the user has left, an older event could count more");
        let (present, left): (Vec<_>, Vec<_>) =
            self.of(caller.user_id).into_iter().partition(|(_, _, is_member)| *is_member);
        let left = left.into_iter().map(|(channel_id, version, _)| types::LeftChannel { channel_id, version });
        Ok(types::ChannelList {
            channels: present.into_iter().map(|(id, version, _)| channel(id, version)).collect(),
            left: left.collect(),
        })
    }

    async fn create_channel_message(
        &self,
        _: &Context,
        caller: TokenCaller,
        id: i64,
        _: Option<Uuid>,
        body: types::NewMessage,
    ) -> Result<CreateChannelMessageResponse, Problem> {
        self.check_available("messages")?;
        if !self.of(caller.user_id).iter().any(|(channel_id, _, is_member)| *channel_id == id && *is_member) {
            return Err(Problem::not_found("there is no such channel"));
        }
        let mut posted = self.posted_in.lock().unwrap();
        posted.push((id, body.thread_id, caller.user_id, body.source.map(String::from).unwrap_or_default()));
        let message_id = i64::try_from(posted.len()).unwrap();
        Ok(CreateChannelMessageResponse {
            location: format!("/api/v2/messages/{message_id}"),
            body: types::Message {
                id: message_id,
                version: 1,
                cursor: String::new(),
                created_at: chrono::DateTime::UNIX_EPOCH,
                updated_at: chrono::DateTime::UNIX_EPOCH,
                edited_at: None,
                deleted_at: None,
                channel_id: id,
                user_id: caller.user_id,
                nickname: None,
                source: String::new(),
                html: String::new(),
                mentions: None,
                previews: Vec::new(),
                reactions: Vec::new(),
                thread_id: body.thread_id,
                reply_count: None,
                last_reply_at: None,
                pinned_at: None,
                files: Vec::new(),
            },
        })
    }

    async fn create_channel(
        &self,
        _: &Context,
        _: TokenCaller,
        _: types::NewChannel,
    ) -> Result<CreateChannelResponse, Problem> {
        Err(Problem::internal())
    }

    async fn get_channel(&self, _: &Context, _: TokenCaller, _: i64) -> Result<GetChannelResponse, Problem> {
        Err(Problem::internal())
    }

    async fn update_channel(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: Option<types::EntityTag>,
        _: types::ChannelUpdate,
    ) -> Result<UpdateChannelResponse, Problem> {
        Err(Problem::internal())
    }

    async fn list_members(&self, _: &Context, _: TokenCaller, _: i64) -> Result<types::MemberList, Problem> {
        Err(Problem::internal())
    }

    async fn add_member(&self, _: &Context, _: TokenCaller, _: i64, _: i64) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn leave_channel(&self, _: &Context, _: TokenCaller, _: i64, _: i64) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn set_read_position(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: types::ReadPosition,
    ) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn list_channel_messages(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: Option<types::PageCursor>,
        _: Option<types::PageCursor>,
        _: Option<i32>,
    ) -> Result<types::MessagesPage, Problem> {
        Err(Problem::internal())
    }

    async fn list_messages_page(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: Option<types::PageCursor>,
        _: Option<types::PageCursor>,
        _: Option<i32>,
    ) -> Result<types::MessagesPage, Problem> {
        Err(Problem::internal())
    }

    async fn get_message_by_id(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: i64,
    ) -> Result<GetMessageByIdResponse, Problem> {
        Err(Problem::internal())
    }

    async fn edit_message(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: Option<types::EntityTag>,
        _: types::MessageEdit,
    ) -> Result<EditMessageResponse, Problem> {
        Err(Problem::internal())
    }

    async fn delete_message(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: Option<types::EntityTag>,
    ) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn list_replies(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: i64,
        _: Option<types::PageCursor>,
        _: Option<types::PageCursor>,
        _: Option<i32>,
    ) -> Result<types::MessagesPage, Problem> {
        Err(Problem::internal())
    }

    async fn add_reaction(&self, _: &Context, _: TokenCaller, _: i64, _: types::Emoji) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn remove_reaction(&self, _: &Context, _: TokenCaller, _: i64, _: types::Emoji) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn pin_message(&self, _: &Context, _: TokenCaller, _: i64) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn unpin_message(&self, _: &Context, _: TokenCaller, _: i64) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn preview_message(
        &self,
        _: &Context,
        _: TokenCaller,
        _: types::MessageEdit,
    ) -> Result<types::MessagePreview, Problem> {
        Err(Problem::internal())
    }

    async fn get_file(&self, _: &Context, _: Option<TokenCaller>, _: i64, _: i64) -> Result<GetFileResponse, Problem> {
        Err(Problem::internal())
    }

    async fn create_file(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: types::FileName,
        _: Option<Uuid>,
        _: Bytes,
    ) -> Result<types::File, Problem> {
        Err(Problem::internal())
    }

    async fn list_pins(&self, _: &Context, _: TokenCaller, _: i64) -> Result<types::PinList, Problem> {
        Err(Problem::internal())
    }
}
