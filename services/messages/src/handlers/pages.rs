//! Pages of messages: `list_messages_page`, `list_channel_messages` and `list_replies`.
//!
//! A page is chosen by ids: an index finds each page in the same time, however old its messages are.

use flack_api::{
    Problem, id_of_page_cursor,
    messages_v2::types::{MessagesPage, PageCursor},
    page_cursor,
};

use super::Messages;
use crate::store::List;

/// Messages of a page whose request names no limit.
const PAGE_MESSAGES: i32 = 50;

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// The newest ids below this one.
    Before(i64),
    /// The oldest ids above this one.
    After(i64),
}

/// The newest messages.
const END: Position = Position::Before(i64::MAX);

impl Messages {
    /// Returns a page. The caller of this function has checked that the user can read the list.
    pub(super) async fn page(
        &self,
        of: List,
        before: Option<PageCursor>,
        after: Option<PageCursor>,
        limit: Option<i32>,
    ) -> Result<MessagesPage, Problem> {
        let position = match (before, after) {
            (None, None) => END,
            (Some(before), None) => Position::Before(id_of("before", &before)?),
            (None, Some(after)) => Position::After(id_of("after", &after)?),
            (Some(_), Some(_)) => return Err(Problem::bad_request("use `before` or `after`, not both")),
        };
        let limit = limit.unwrap_or(PAGE_MESSAGES);
        // All ids below `first` are earlier than the page, and all ids above `last` are later.
        let (messages, first, last);
        match position {
            Position::Before(id) => {
                messages = self.store.messages_before(of, id, limit).await?;
                (first, last) = (messages.first().map_or(id, |message| message.id), id.saturating_sub(1));
            }
            Position::After(id) => {
                messages = self.store.messages_after(of, id, limit).await?;
                (first, last) = (id.saturating_add(1), messages.last().map_or(id, |message| message.id));
            }
        }
        let (has_earlier, has_later) = self.store.has_messages_beside(of, first, last).await?;
        Ok(MessagesPage {
            messages: messages.into_iter().map(Into::into).collect(),
            earlier: has_earlier.then(|| page_cursor(first)),
            later: has_later.then(|| page_cursor(last)),
        })
    }
}

fn id_of(parameter: &str, cursor: &str) -> Result<i64, Problem> {
    id_of_page_cursor(cursor).ok_or_else(|| {
        Problem::bad_request(format!("`{parameter}` is no cursor of this list; use one that it returned"))
    })
}
